"""What every paper is compared with: first stages, floors, and re-rankers without training of their own."""
