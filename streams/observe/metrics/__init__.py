"""Prometheus metrics of gateway, worker and enrichment.

Two rules hold for every metric here:

* **Labels are bounded and contain nothing of a payload.** A value is a name that our code declares, or goes through
  `labels.Bounded`, so that a vendor that invents event types or fields creates a bounded number of series.
* **The hot path counts in dicts.** What a batch adds is summed up first, and passed to prometheus_client once per set
  of labels. Lag and state are looked up at a scrape.
"""
