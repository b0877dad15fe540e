"""What the tasks share that are made around another one and only read its replies in a way of their own."""

from rowmill.tasks import Task


class TaskWrapper:
    """The members of a `Task` that are the inner task's. Its methods stand here bound, so that a call is one call."""

    def __init__(self, inner: Task) -> None:
        self.columns = inner.columns
        self.same_for_all = inner.same_for_all
        self.reply_tokens = inner.reply_tokens
        self.shared_tokens = inner.shared_tokens
        self.documents = inner.documents
        self.build = inner.build
        self.id_of = inner.id_of
        self.input_of = inner.input_of
        self.check = inner.check
