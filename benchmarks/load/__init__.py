"""What is the limit of one real Redis? Thousands of connections from one asyncio process."""
