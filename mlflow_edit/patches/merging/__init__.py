"""Strategies that make one weight update of the updates of two sides; each is pure tensor maths."""
