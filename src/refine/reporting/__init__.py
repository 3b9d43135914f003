"""What finished runs say, and how sure one can be of it. Nothing here needs torch."""
