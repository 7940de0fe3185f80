"""A headless Chromium that a test drives through its debugging pipe: no further package is needed."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = [
    '--headless', '--no-sandbox', '--no-first-run', '--disable-background-networking', '--disable-sync',
    '--disable-component-update', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--remote-debugging-pipe',
]  # fmt: skip


def find_chromium() -> str:
    """Return the path of a Chromium."""
    found = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    assert found is not None, 'no Chromium here: `bash tests/run.sh --services` installs it'
    return found


class Browser:
    """One window with one tab.

    :param folder: for its profile.

    ``console`` holds what the page complained of: warnings, errors, exceptions, refused requests. ``requests`` holds the
    addresses that it asked for.
    """

    def __init__(self, folder: Path) -> None:
        to_browser, mine = os.pipe()
        theirs, from_browser = os.pipe()
        command = [find_chromium(), *FLAGS, f'--user-data-dir={folder}', 'about:blank']
        # Chromium reads commands from its descriptor 3 and writes answers to 4.
        self.process = subprocess.Popen(
            ['bash', '-c', f'exec "$@" 3<&{to_browser} 4>&{from_browser}', 'chromium', *command],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._write, self._read = os.fdopen(mine, 'wb'), os.fdopen(theirs, 'rb')
        self._number = 0
        self._buffer = b''
        self._session: str | None = None
        self.console: list[str] = []
        self.requests: list[str] = []
        target = next(item for item in self.send('Target.getTargets')['targetInfos'] if item['type'] == 'page')
        self._session = self.send('Target.attachToTarget', targetId=target['targetId'], flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.send(f'{domain}.enable')

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(20)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {'id': self._number, 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        self._write.write(json.dumps(message).encode() + b'\0')
        self._write.flush()
        while True:
            answer = self._receive()
            if answer.get('id') == self._number:
                assert 'error' not in answer, (method, answer)
                return answer['result']

    def _receive(self) -> dict[str, Any]:
        while b'\0' not in self._buffer:
            chunk = os.read(self._read.fileno(), 1 << 20)
            assert chunk, 'Chromium has ended'
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b'\0', 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get('method'), message.get('params', {}))
        return message

    def _note(self, method: str | None, event: dict[str, Any]) -> None:
        if method == 'Runtime.consoleAPICalled' and event['type'] in ('error', 'warning', 'assert'):
            self.console.append(' '.join(str(item.get('value', item.get('description'))) for item in event['args']))
        elif method == 'Runtime.exceptionThrown':
            details = event['exceptionDetails']
            self.console.append(details.get('exception', {}).get('description') or details['text'])
        elif method == 'Log.entryAdded' and event['entry']['level'] in ('error', 'warning'):
            self.console.append(f'{event["entry"]["text"]} {event["entry"].get("url", "")}')
        elif method == 'Network.requestWillBeSent':
            self.requests.append(event['request']['url'])

    def size(self, width: int, height: int = 900, dark: bool = False) -> None:
        """Set the size of the window and the colours that the user prefers."""
        self.send('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.send('Emulation.setEmulatedMedia', features=[scheme])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.send('Page.navigate', url=address)

    def value(self, expression: str) -> Any:
        """Return what a JavaScript expression gives."""
        result = self.send('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression, or what it promises, is true."""
        end = time.monotonic() + seconds
        while not self.value(f'Promise.resolve({expression}).then(Boolean)'):
            assert time.monotonic() < end, f'`{expression}` did not come true; the console says {self.console}'
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        """Click in the middle of the first element of a selector, as a mouse does."""
        place = self.value(
            f'(() => {{ const item = document.querySelector({json.dumps(selector)}); '
            'item.scrollIntoView({block: "center", behavior: "instant"}); const box = item.getBoundingClientRect(); '
            'return [box.x + box.width / 2, box.y + box.height / 2]; })()'
        )
        self.click_at(*place)

    def click_at(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        self.send('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)
        time.sleep(0.2)
        for kind in ('mousePressed', 'mouseReleased'):
            self.send('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write a picture of the window, or of the whole page."""
        picture = self.send('Page.captureScreenshot', format='png', captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(picture['data']))
