"""Where a job's metrics may go besides the service: Weights & Biases, MLflow, TensorBoard, Trackio."""
