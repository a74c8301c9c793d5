"""Answers that are held to a JSON schema while they are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LAYOUT = {"whitespace_flexible": True, "whitespace_pattern": r" ?|\n {0,8}"}
"""Between the parts of JSON: a blank, or a new line and its indent. Small models go on with blanks
to the cap where any number of them is allowed."""


class Grammars:
    """Holds answers to a JSON schema, by llguidance; without it, or for a schema that it cannot
    read, the schema is written into the prompt."""

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        self._tokenizer: Any = None
        self._known: dict[str, str | None] = {}
        try:
            import llguidance
            from llguidance.hf import from_tokenizer
        except ImportError:
            return
        self._library = llguidance
        try:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=sorted(ends) or None)
        except ValueError:  # a tokenizer that is written in Python
            return

    @property
    def there(self) -> bool:
        """Whether any schema can be enforced."""
        return self._tokenizer is not None

    def take(self, schema: Mapping[str, Any]) -> bool:
        """Whether `schema` can be enforced."""
        return self.there and self._grammar(schema) is not None

    def matcher(self, schema: Mapping[str, Any]) -> Any:
        """What allows only the tokens that fit; None if it cannot be enforced."""
        grammar = self._grammar(schema) if self.there else None
        return None if grammar is None else self._library.LLMatcher(self._tokenizer, grammar)

    def _grammar(self, schema: Mapping[str, Any]) -> str | None:
        text = json.dumps(schema, sort_keys=True)
        if text not in self._known:
            try:
                grammar = self._library.LLMatcher.grammar_from_json_schema(text, _LAYOUT)
                wrong = self._library.LLMatcher.validate_grammar(grammar, self._tokenizer)
            except ValueError as error:
                grammar, wrong = "", str(error)
            self._known[text] = None if wrong else grammar
        return self._known[text]
