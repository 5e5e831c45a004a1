"""Work in processes of their own, watched by the app."""
