"""What every paper is held against: first stages, floors, and re-rankers that nobody trained."""
