"""The REST API: FastAPI on plain uvicorn, apart from Ray, so that it outlives the cluster."""
