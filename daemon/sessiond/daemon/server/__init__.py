"""The gRPC face of the daemon. It knows no backend."""
