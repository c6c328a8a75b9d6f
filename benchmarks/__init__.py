"""What the service costs, measured beside the floor and beside what one would otherwise write."""
