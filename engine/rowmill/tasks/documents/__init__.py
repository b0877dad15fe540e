"""Documents: a column with the path of a file -> the file's text, in the row's prompt.

Reading one may take seconds of computing, gigabytes of memory, or the process that does it: a page of a few kilobytes
can expand a thousandfold, and readers of damaged files have defects. So each worker has a child that reads them, one
after the other, within limits (`reader`); what it does stands in `extraction`. A document is read when its row is about
to be asked, and its text is held no longer than that: nothing is written down, and a run that is gone on with reads
what it still has to ask.
"""
