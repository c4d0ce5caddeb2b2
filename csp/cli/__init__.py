"""The commands; each file is one subject. Imports that take long are made inside the commands."""
