"""Language models: requests, replies, and the layers that every request goes through."""
