"""How long a partition has no owner when its process goes, contender beside contender on one Kafka."""
