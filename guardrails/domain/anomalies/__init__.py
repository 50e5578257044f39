"""What is out of the ordinary, decided on plain values.

Habits (`baseline`), hours (`hours`), minutes (`minutes`), newcomers (`newcomers`), causes (`causes`).
"""
