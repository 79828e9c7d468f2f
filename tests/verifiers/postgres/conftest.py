"""A PostgreSQL server and a shop in it, for the tests of this folder.

They are skipped where PostgreSQL is not installed.
"""

from collections.abc import Iterator

import pytest

from tests.verifiers.postgres.server import PostgresServer, binaries
from verifiers.pool import WorkerPool

SHOP = """
CREATE TYPE mood AS ENUM ('sad', 'glad', 'calm');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE customer (id int PRIMARY KEY, name varchar(20) NOT NULL, city text, vip boolean,
    mood mood, mail email, code char(3), token uuid UNIQUE, CHECK (id > 0));
CREATE TABLE sale (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customer (id),
    day date NOT NULL, at timestamptz, amount numeric(10, 2) NOT NULL, ratio float8, note text,
    tags text[], extra jsonb, gross numeric GENERATED ALWAYS AS (amount * 1.25) STORED);
CREATE TABLE "Odd Name" ("Key" int PRIMARY KEY, "order" text);
CREATE TABLE event (id int, day date NOT NULL) PARTITION BY RANGE (day);
CREATE TABLE event_2024 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE VIEW big AS SELECT * FROM sale WHERE amount > 50;
CREATE VIEW spent AS SELECT c.*, count(*) AS sales, sum(s.amount) AS total
    FROM customer c JOIN sale s ON s.customer_id = c.id GROUP BY c.id;
CREATE MATERIALIZED VIEW cities AS SELECT DISTINCT city FROM customer WHERE city IS NOT NULL;
CREATE SCHEMA archive;
CREATE TABLE archive.sale (id int PRIMARY KEY, amount numeric(10, 2) NOT NULL);
CREATE SEQUENCE ticket;
CREATE FUNCTION twice(x numeric) RETURNS numeric IMMUTABLE LANGUAGE sql AS 'SELECT 2 * x';
CREATE FUNCTION peek() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM sale';
CREATE FUNCTION wreck() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN DELETE FROM public.sale; RETURN 1; END';
CREATE FUNCTION sly() RETURNS int STABLE SECURITY DEFINER LANGUAGE plpgsql AS
    'BEGIN PERFORM setval(''ticket'', 99); RETURN 1; END';
INSERT INTO customer VALUES
    (1, 'Ada', 'Oslo', true, 'glad', 'ada@x.org', 'a', '00000000-0000-0000-0000-0000000000aa'),
    (2, 'Bo', 'Rome', false, 'sad', NULL, 'b', NULL), (3, 'Cy', NULL, false, NULL, 'c@x.org', NULL, NULL),
    (4, 'Di', 'Oslo', NULL, 'glad', NULL, 'abc', '00000000-0000-0000-0000-0000000000bb');
INSERT INTO sale (id, customer_id, day, at, amount, ratio, note, tags, extra) VALUES
    (1, 1, '2024-01-05', '2024-01-05 10:00+00', 10.5, 0.1, NULL, '{a}', '{"k": 1, "w": "x"}'),
    (2, 1, '2024-02-11', NULL, 99.9, 'NaN', 'gift', NULL, NULL),
    (3, 2, '2024-02-29', '2024-03-01 00:30+01', 50, NULL, NULL, '{a,b}', '{"k": 2}'),
    (4, 3, '2025-01-01', '2025-01-01 23:59:59+00', 70, 2.5, 'late', '{}', '[1, 2]'),
    (5, 1, '2025-03-01', NULL, 10.5, 1e300, 'x', '{c}', '{"k": null}');
INSERT INTO archive.sale VALUES (1, 5), (9, 12.5);
INSERT INTO "Odd Name" VALUES (1, 'one'), (2, NULL);
INSERT INTO event VALUES (1, '2024-03-03'), (2, '2023-03-03'), (3, '2024-09-09');
REFRESH MATERIALIZED VIEW cities;
ANALYZE;
"""


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    home = binaries()
    if home is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    server = PostgresServer(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROP_SQL_ALLOW", server.host)
        yield server
    server.stop()


@pytest.fixture(scope="session")
def shop(server: PostgresServer) -> str:
    return server.create("shop", SHOP, ("public", "archive"))


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(1) as pool:
        yield pool
