"""How many GPUs a load of jobs needs: memory, seconds and traffic, each number with its origin."""
