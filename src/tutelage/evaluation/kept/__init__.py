"""What of the teacher the student kept, and what it lost."""
