module model-storage-pipeline/bench/servers

go 1.21
