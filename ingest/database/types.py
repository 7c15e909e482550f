"""Column types that hold and order the same on SQLite and on PostgreSQL.

Decision: every whole number has 64 bits, as on SQLite anyway, so nothing that is counted for years
ends at 2 ** 31; and texts are ordered by their bytes, not as somebody's language would.
"""

from sqlalchemy import BigInteger, Double, Integer, String

# SQLite numbers the rows of an `INTEGER PRIMARY KEY` alone by itself; it has 64 bits as well.
WholeNumber = BigInteger().with_variant(Integer(), "sqlite")
Number: Double[float] = Double()
Text = String().with_variant(String(collation="C"), "postgresql")
