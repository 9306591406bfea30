"""Cotejo: which image classifier is better on these images, by how much, and at what cost?"""
