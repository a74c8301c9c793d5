"""Which addresses a request of a client may make the server connect to: public ones only."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["Address", "Network", "is_public", "parse_address"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Written out rather than left to `ipaddress.is_global`, whose table differs between the patch
# releases of Python: the IANA special-purpose registries, and what clouds put beside them.
_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; also Alibaba's metadata at 100.100.100.200
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host agent, at an address that looks public
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; also Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)
# All else is loopback, mapped, translated (NAT64), unique-local, link-local, multicast or reserved.
_GLOBAL_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, which holds an IPv4 address, and others
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
# The middle of an interface id that holds an IPv4 address for ISATAP (with either u bit).
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFDFFFFFF


def parse_address(text: str) -> Address | None:
    """The address that `text` spells in full, or None.

    IPv4 only as four decimal numbers without leading zeros: the other spellings that C libraries
    take (one number, octal, hexadecimal, fewer parts) are none here. A zone id makes it None.
    """
    kind = IPv6Address if ":" in text else IPv4Address
    try:
        return kind(text) if "%" not in text else None
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether `address` belongs to the open Internet.

    False for loopback, private, link-local, carrier-grade NAT, multicast, reserved, unspecified
    and documentation addresses, for the metadata services of clouds, and for every IPv6 form that
    holds an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64, ISATAP), whatever it holds.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address not in _GLOBAL_V6 or any(address in network for network in _CLOSED_V6):
        return False
    return (int(address) >> 32) & _ISATAP_MASK != _ISATAP
