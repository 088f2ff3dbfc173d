"""The viewer: a run in the browser, searched, filtered, and read latent by latent."""
