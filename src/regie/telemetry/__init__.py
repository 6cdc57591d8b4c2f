"""What a process tells of itself to those who watch it: figures for Prometheus, traces for OpenTelemetry.

Neither holds what a run is about: no id of a person, no ticket, no value. What is off costs next to nothing.
"""
