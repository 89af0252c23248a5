"""One delivery from the POST to the answer."""
