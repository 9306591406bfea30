"""What happened, kept on this machine first and then sent to MLflow."""
