"""Time: the deadlines of requests, time-outs of one length, each stage's own time, and times as they are written."""
