"""Accept an attempt or try again: a loop around a frozen policy, judged by a light model of its own records."""
