"""Who may look at the page, and how."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from aiida_mlip_al.page.guard import Guard, is_loopback

TOKEN = 'correct-horse-battery'


def client(token: str | None = None, names: tuple[str, ...] = (), host: str = 'http://localhost:8642') -> TestClient:
    return TestClient(Guard(PlainTextResponse('numbers'), names, token), base_url=host, follow_redirects=False)


@pytest.mark.parametrize('method', ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
def test_nothing_can_be_written(method: str) -> None:
    answer = client().request(method, '/')
    assert (answer.status_code, answer.headers['allow']) == (405, 'GET, HEAD')
    assert 'numbers' not in answer.text


@pytest.mark.parametrize(
    'host', ['http://localhost:9', 'http://127.0.0.1:8642', 'http://[::1]:8642', 'http://10.1.2.3']
)
def test_addresses_in_digits_and_localhost_are_this_machine(host: str) -> None:
    assert client(host=host).get('/').text == 'numbers'


@pytest.mark.parametrize(
    'host', ['http://evil.example', 'http://localhost.evil.example', 'http://127.0.0.1.evil.example']
)
def test_a_name_that_someone_else_points_here_is_refused(host: str) -> None:
    answer = client(host=host).get('/')
    assert answer.status_code == 403
    assert 'numbers' not in answer.text


def test_a_name_that_was_told_is_known_whatever_its_case() -> None:
    assert client(names=('Node7.Cluster',), host='http://node7.cluster:80').get('/').text == 'numbers'
    answer = client().get('/', headers={'host': ''})
    assert answer.status_code == 403


def test_every_answer_forbids_other_sites_everything() -> None:
    for answer in (client().get('/'), client().post('/'), client(TOKEN).get('/')):
        policy = answer.headers['content-security-policy']
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert 'http' not in policy
        assert answer.headers['cross-origin-resource-policy'] == 'same-origin'
        assert answer.headers['x-content-type-options'] == 'nosniff'
        assert answer.headers['referrer-policy'] == 'no-referrer'
        assert answer.headers['cache-control'] == 'no-store'
        assert 'access-control-allow-origin' not in answer.headers


@pytest.mark.parametrize(
    'query', ['', '?token=', '?token=wrong', f'?token={TOKEN}x', '?token=%C3%A4', f'?token={TOKEN[:-1]}']
)
def test_without_the_token_there_is_nothing(query: str) -> None:
    answer = client(TOKEN).get(f'/runs/1{query}', headers={'cookie': 'mlip-al-token-8642=wrong; mlip-al-token=correct'})
    assert answer.status_code == 401
    assert 'numbers' not in answer.text
    assert 'set-cookie' not in answer.headers


def test_the_token_goes_from_the_address_into_a_cookie() -> None:
    browser = client(TOKEN)
    answer = browser.get(f'/runs/1?page=2&token={TOKEN}')
    assert (answer.status_code, answer.headers['location']) == (303, '/runs/1?page=2')
    assert 'httponly' in answer.headers['set-cookie'].lower()
    assert browser.get('/runs/1?page=2').text == 'numbers'
    assert client(TOKEN).get('/runs/1').status_code == 401


@pytest.mark.parametrize('path', ['//evil.example/', '/\\evil.example/', '///evil.example'])
def test_the_token_does_not_lead_to_another_site(path: str) -> None:
    from urllib.parse import urljoin, urlsplit

    answer = client(TOKEN).get(f'http://localhost:8642{path}?token={TOKEN}')
    assert answer.status_code == 303
    assert urlsplit(urljoin('http://localhost:8642/', answer.headers['location'])).netloc == 'localhost:8642'


def test_loopback_is_told_apart() -> None:
    assert all(map(is_loopback, ('127.0.0.1', '127.8.8.8', '::1', 'localhost')))
    assert not any(map(is_loopback, ('0.0.0.0', '::', '10.0.0.1', 'node7', 'localhost.evil.example')))
