"""POST /v1/responses: the same path as a chat completion, asked and answered in another form."""
