"""What the models answer on the test images, and how well."""
