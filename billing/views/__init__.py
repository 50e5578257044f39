"""What a person sees of the books: the overview and the call log."""
