"""The JSON API: views, input, output, its own documents."""
