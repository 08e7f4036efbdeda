"""Training stages; each is resumable and writes its checkpoint under the work folder."""
