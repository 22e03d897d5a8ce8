"""What each process tells Prometheus: ``/metrics`` of gateway, worker and enrichment.

Two rules hold for every metric here:

* **Labels are bounded and hold nothing of a payload**: a value is one of the names that our code declares, or goes
  through `labels.Bounded`, so that a vendor who invents event types or fields makes a bounded number of series.
* **The hot path counts in dicts**: what a batch adds is summed up first and told to prometheus_client once for each set
  of labels. What can be looked up (lag, state) is looked up when somebody asks.
"""
