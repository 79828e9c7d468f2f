"""Keys and scopes: who may do what, and for how long."""

from __future__ import annotations

import httpx
import pytest
import redis

from services.callers import SCOPES, Scope
from services.errors import IllegalTransition, InvalidRequest, NotFound
from services.key_store import KeyStore
from services.keys import parse_token
from services.store import Store
from tests.services.running import Api


@pytest.fixture
def keys(store: Store) -> KeyStore:
    return KeyStore(store.link)


async def test_a_key_opens_with_its_token_alone_and_only_its_hash_is_stored(
    keys: KeyStore, store_url: str
) -> None:
    token = (await keys.create("alice", tenant="team-a", scopes=["jobs:read"])).token
    key = await keys.check(token)
    assert key is not None
    assert (key.name, key.tenant, key.scopes) == ("alice", "team-a", {"jobs:read"})
    _, key_id, secret = token.split("_")
    for wrong in ("", "strop_", token[:-1], token + "0", f"strop_{key_id}_", f"strop_x_{secret}"):
        assert await keys.check(wrong) is None
    with redis.Redis.from_url(store_url, decode_responses=True) as client:
        stored = [client.hgetall(name) for name in client.keys("*key:*")]
    assert len(stored) == 1
    assert secret not in str(stored)
    assert secret not in repr(parse_token(token))


async def test_a_rotated_key_opens_with_both_secrets_until_the_grace_ends(keys: KeyStore) -> None:
    first = await keys.create("alice", scopes=["jobs:read"])
    second = await keys.rotate(first.key.id, grace_s=3600)
    assert first.key.id == second.key.id
    assert await keys.check(first.token) is not None
    assert await keys.check(second.token) is not None
    third = await keys.rotate(first.key.id, grace_s=0)
    assert await keys.check(first.token) is None
    assert await keys.check(second.token) is None
    assert await keys.check(third.token) is not None


async def test_a_revoked_or_expired_key_opens_nothing(keys: KeyStore) -> None:
    revoked = await keys.create("alice", scopes=["jobs:read"])
    once = await keys.revoke(revoked.key.id)
    assert once.revoked_at is not None
    assert await keys.revoke(revoked.key.id) == once
    assert await keys.check(revoked.token) is None
    with pytest.raises(IllegalTransition, match="revoked"):
        await keys.rotate(revoked.key.id)
    expired = await keys.create("bob", scopes=["jobs:read"], lifetime_s=0)
    assert await keys.check(expired.token) is None
    lasting = await keys.create("bob", scopes=["jobs:read"], lifetime_s=3600)
    assert await keys.check(lasting.token) is not None
    for change in (keys.get, keys.revoke, keys.rotate):
        with pytest.raises(NotFound):
            await change("nobody")


async def test_the_last_use_is_written_at_most_once_a_minute(
    keys: KeyStore, store_url: str
) -> None:
    made = await keys.create("alice", scopes=["jobs:read"])
    assert (await keys.get(made.key.id)).last_used_at is None
    await keys.check(made.token[:-1] + ("0" if made.token[-1] != "0" else "1"))
    assert (await keys.get(made.key.id)).last_used_at is None
    await keys.check(made.token)
    used = (await keys.get(made.key.id)).last_used_at
    assert used is not None
    with redis.Redis.from_url(store_url) as client:
        name = f"{{strop}}:key:{made.key.id}"
        client.hset(name, "last_used_at", str(used - 30))
        await keys.check(made.token)
        assert (await keys.get(made.key.id)).last_used_at == used - 30
        client.hset(name, "last_used_at", str(used - 61))
        await keys.check(made.token)
        assert (await keys.get(made.key.id)).last_used_at != used - 61


async def test_keys_are_listed_newest_first_of_one_tenant_or_of_all(keys: KeyStore) -> None:
    made = [
        (await keys.create("k", tenant=tenant, scopes=["verify"])).key.id
        for tenant in ("a", "b", "a", "a")
    ]
    page, more = await keys.list_keys(limit=3)
    assert ([key.id for key in page], more) == (made[:0:-1], True)
    page, more = await keys.list_keys(after=made[1], limit=3)
    assert ([key.id for key in page], more) == (made[:1], False)
    page, _ = await keys.list_keys("a")
    assert [key.id for key in page] == [made[3], made[2], made[0]]
    with pytest.raises(NotFound):
        await keys.list_keys("a", after=made[1])


@pytest.mark.parametrize("tenant", ["", "A", "a/b", "..", "a\n", "-a", "a" * 64, "ä", "a:b"])
async def test_a_name_that_could_be_a_path_is_no_tenant(keys: KeyStore, tenant: str) -> None:
    with pytest.raises(InvalidRequest, match="no name of a tenant"):
        await keys.create("alice", tenant=tenant, scopes=["verify"])


async def test_a_key_without_the_scope_is_told_which_one_is_wanted(api: Api) -> None:
    routes: list[tuple[str, str, Scope]] = [
        ("GET", "/v1/fine_tuning/jobs", "jobs:read"),
        ("POST", "/v1/fine_tuning/jobs", "jobs:write"),
        ("POST", "/v1/fine_tuning/jobs/x/cancel", "jobs:write"),
        ("POST", "/v1/fine_tuning/alpha/graders/run", "verify"),
        ("GET", "/v1/files", "files:read"),
        ("DELETE", "/v1/files/x", "files:write"),
        ("GET", "/metrics", "metrics:read"),
    ]
    for method, path, wanted in routes:
        others: list[Scope] = [scope for scope in SCOPES if scope not in (wanted, "admin")]
        cases: list[tuple[list[Scope], bool]] = [
            (others, True), ([wanted], False), (["admin"], False),
        ]  # fmt: skip
        for scopes, refused in cases:
            async with api.client(key=await api.key_of(*scopes)) as client:
                response = await client.request(method, path)
                assert (response.status_code == 403) is refused, (method, path, scopes)
                if refused:
                    assert response.json()["error"]["code"] == "forbidden"
                    assert wanted in response.json()["detail"]


async def test_a_request_has_an_id_of_its_own_or_the_callers(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.url) as client:
        one, two = [(await client.get("/healthz")).headers["x-request-id"] for _ in "ab"]
        assert one != two
        for given, kept in (("mine-1", True), ("a b", False), ("x" * 65, False)):
            answer = await client.get("/healthz", headers={"X-Request-Id": given})
            assert (answer.headers["x-request-id"] == given) is kept


async def test_a_key_learns_whose_it_is_and_what_it_may_do(api: Api) -> None:
    reader = await api.key_of("jobs:read", tenant="search")
    async with api.client(key=reader) as client:
        me = (await client.get("/v1/me")).json()
    assert (me["tenant"], me["scopes"]) == ("search", ["jobs:read"])
    assert me["id"] == reader.split("_")[1]
    async with api.client() as client:
        assert (await client.get("/v1/me")).json()["scopes"] == list(SCOPES)
