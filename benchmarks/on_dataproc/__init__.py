"""What `dataproc_chain` runs: an emulator whose machines only take their time, and the DAGs of both sides."""
