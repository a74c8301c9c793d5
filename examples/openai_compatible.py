"""Any OpenAI-compatible server: OpenAI, Gemini, Qwen, vLLM, Ollama and others.

export OPENAI_BASE_URL=http://localhost:11434/v1     # not needed for OpenAI itself
export OPENAI_API_KEY=...                            # where the server wants one
export MODEL=llama3.2-vision:11b
python examples/openai_compatible.py IMAGE QUESTION
"""

from __future__ import annotations

import os
import sys

from ecoalign import EcoAlignError, align


def main() -> None:
    model, base_url = os.environ.get("MODEL"), os.environ.get("OPENAI_BASE_URL")
    if not model or not (base_url or os.environ.get("OPENAI_API_KEY")):
        sys.exit("set MODEL, and OPENAI_BASE_URL or OPENAI_API_KEY: see the top of this file")
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/openai_compatible.py IMAGE QUESTION")
    image, question = sys.argv[1:]
    try:
        # Tokens and seconds, both hard. Dollars too, where the model's price is known: "$0.02".
        result = align(
            image, question, model=f"openai:{model}", base_url=base_url, budget="40000,120s"
        )
    except EcoAlignError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(result.answer)
    usd = "unknown" if result.spent.usd is None else f"${result.spent.usd:.4f}"
    print(f"{result.spent.tokens.total} tokens, {usd}", file=sys.stderr)


if __name__ == "__main__":
    main()
