"""Pictures, video files and sound as arrays: foundation of every room."""
