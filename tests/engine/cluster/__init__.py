"""Tests of replicas and the units that they share."""
