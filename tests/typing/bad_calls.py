"""A user's script with a slip on each line that says so; `mypy --strict` finds them all, and nothing else."""

import pandas as pd
from pydantic import BaseModel

import rowmill


class Ticket(BaseModel):
    topic: str


rowmill.map(["a"], model="m", promt="{text}")  # slip
rowmill.map(["a"], model="m", temperature=0)  # slip
rowmill.map(["a"], model=7)  # slip
rowmill.map(["a"], model="m", api="chat")  # slip
rowmill.map(["a"], model="m", workers={"cuont": 4})  # slip
rowmill.map(["a"], model="m", workers={"count": "all"})  # slip
rowmill.map(["a"], model="m", cache={"use": "memory"})  # slip
rowmill.map(["a"], model="m", budget={"max_eur": 4})  # slip
rowmill.map(["a"], model="m", include=["price"])  # slip
rowmill.map(["a"], model="m", provider=[{"url": "http://a/v1"}])  # slip
rowmill.map(["a"], model="m", retry_failed="yes")  # slip
rowmill.map(7, model="m")  # slip
rowmill.map(["a"], model="m", schema=7)  # slip
rowmill.map()  # slip
rowmill.map(["a"], schema=Ticket, model="m")[0].output.topic  # slip: it may be None
rowmill.map(["a"], schema=Ticket, model="m").usd  # slip: it is the report's
rowmill.map(pd.DataFrame(), model="m").with_columns()  # slip: of polars
rowmill.map(pd.DataFrame(), model="m", limt=5)  # slip
rowmill.run("config.toml", limit="5")  # slip
rowmill.run("config.toml", retry=True)  # slip
rowmill.walk("config.toml")  # slip
rowmill.amap(["a"], model="m", sampel=5)  # slip


async def main() -> None:
    rows: list[str] = await rowmill.amap(["a"], schema=Ticket, model="m")  # slip
    await rowmill.amap(["a"], model="m", promt="{text}")  # slip
    await rowmill.arun("config.toml", promt="{text}")  # slip
    print(rows)
