"""The configuration: site and study, where they are read and what they may say."""
