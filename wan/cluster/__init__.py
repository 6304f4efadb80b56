"""The service over a Ray cluster: workers that keep models warm, on as many machines as there are.

Ray places the workers, isolates them and tells when one died. What is true for good lies in the
server's database and in the storage.
"""
