"""Language models in Hugging Face folders."""
