"""Secrets that are made when the tests run, from parts: no scanner takes these files for what they are about.

Each is random, so that finding it anywhere means that it came from the file that it was planted in.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

_WORD = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + "234567"
_HEX = "0123456789abcdef"
_BASE64 = _WORD + "+/"


@dataclass(frozen=True, slots=True)
class Planted:
    """A text with a secret in it."""

    name: str
    text: str
    value: str
    """The part of it that nobody may see. It stands on one line."""


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _b64url(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


class Mint:
    """Makes secrets."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def run(self, letters: str, count: int) -> str:
        """So many random ones of these."""
        return "".join(self._random.choices(letters, k=count))

    def password(self) -> str:
        """One that is in no list of examples."""
        return "Hx7!" + self.run(_WORD, 9)

    def _pem(self, kind: str, dashes: str = "-----") -> Planted:
        body = _b64(self._random.randbytes(240))
        lines = [body[at : at + 64] for at in range(0, len(body), 64)]
        head, tail = (f"{dashes}{word} {kind}{dashes}" for word in ("BEG" + "IN", "END"))
        return Planted(f"pem {kind}", "\n".join((head, *lines, tail)), lines[2])

    def _der(self, name: str, head: str) -> Planted:
        """A key without the lines around it, as settings and programs hold it."""
        body = _b64(bytes.fromhex(head.replace(" ", "")) + self._random.randbytes(90))
        return Planted(f"der {name}", f"key_data: {body}", body)

    def _shaped(self) -> Iterator[tuple[str, str]]:
        """Tokens, by the service they are for."""
        run = self.run
        yield from (("aws id", f"{start}IA{run(_UPPER, 16)}") for start in ("AK", "AS"))
        for letter in "pousr":
            yield "github", f"gh{letter}_{run(_WORD, 36)}"
        yield "github fine", f"github_{'pat'}_{run(_WORD, 22)}_{run(_WORD, 59)}"
        for start in ("pat", "dt", "rt", "ptt", "cbt"):
            yield "gitlab", f"gl{start}-{run(_WORD, 20)}"
        for letter in "abcdeprs":
            yield "slack", f"xo{'x'}{letter}-{run('0123456789', 12)}-{run(_WORD, 24)}"
        yield "slack app", f"xa{'pp'}-1-{run(_UPPER, 11)}-{run(_HEX, 40)}"
        yield (
            "slack hook",
            f"https://hooks.sl{'ack.com'}/services/T{run(_UPPER, 9)}/B{run(_UPPER, 9)}/{run(_WORD, 24)}",
        )
        yield "google", f"AI{'za'}{run(_WORD, 35)}"
        yield "google oauth", f"ya{'29'}.{run(_WORD, 60)}"
        yield "google secret", f"GOC{'SPX'}-{run(_WORD, 28)}"
        yield "google refresh", f"1/{'/0'}{run(_WORD, 61)}"
        yield "google hmac", f"GO{'OG'}1E{run(_UPPER, 57)}"
        for start in ("sk_live", "rk_live", "sk_test"):
            yield "stripe", f"{start[:2]}_{start[3:]}_{run(_WORD, 24)}"
        yield "stripe hook", f"wh{'sec'}_{run(_WORD, 32)}"
        for kind in ("", "proj-", "svcacct-", "ant-api03-", "or-v1-"):
            yield "model provider", f"s{'k'}-{kind}{run(_WORD, 48)}"
        yield "hugging face", f"h{'f'}_{run(_WORD, 34)}"
        yield "npm", f"np{'m'}_{run(_WORD, 36)}"
        yield "pypi", f"py{'pi'}-AgEIcHlwaS5vcmc{run(_WORD, 60)}"
        yield "sendgrid", f"S{'G'}.{run(_WORD, 22)}.{run(_WORD, 43)}"
        yield "azure ad", f"{run(_WORD, 3)}8{'Q~'}{run(_WORD, 34)}"
        yield "azure devops", f"{run(_WORD, 76)}{'AZ'}DO{run(_WORD, 4)}"
        yield "vault", f"hv{'s'}.{run(_WORD, 90)}"
        yield "digitalocean", f"dop_{'v1'}_{run(_HEX, 64)}"
        yield "docker", f"dckr_{'pat'}_{run(_WORD, 27)}"
        yield "databricks", f"da{'pi'}{run(_HEX, 32)}"
        yield "age", f"AGE-SECRET-{'KEY'}-1{run(_UPPER, 58)}"

    def tokens(self) -> list[Planted]:
        """One of each kind that its form gives away."""
        made = [Planted(name, f"found = '{token}'", token) for name, token in self._shaped()]
        return [*made, *self._named(), *self._keys(), *self._signed(), *self._addresses(), *self._logins()]

    def _keys(self) -> Iterator[Planted]:
        for kind in ("RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED ", "ED25519 ", "ANY ", ""):
            yield self._pem(f"{kind}PRIVATE KEY")
        yield self._pem("PGP PRIVATE KEY BLOCK")
        yield self._pem("SSH2 ENCRYPTED PRIVATE KEY", dashes="---- ").__class__("ssh2", *self._ssh2())
        inner = self._pem("RSA PRIVATE KEY")
        for shift in range(3):
            coded = _b64(b"x" * shift + inner.text.encode())
            yield Planted(f"pem in base64, {shift}", f"client-key-data: {coded}", coded[80:200])
        escaped = inner.text.replace("\n", "\\n")
        yield Planted("pem in json", json.dumps({"bundle": "x\n" + inner.text}), inner.value)
        yield Planted("pem in a string", f'KEY = "-----END CERTIFICATE-----\\n{escaped}"', inner.value)
        yield self._der("pkcs1", "30 82 04 a4 02 01 00 02 82 01 01 00")
        yield self._der("pkcs8", "30 82 04 bd 02 01 00 30 0d 06 09 2a 86 48 86 f7 0d 01 01 01 05 00 04 82")
        yield self._der("p256", "30 81 87 02 01 00 30 13 06 07 2a 86 48 ce 3d 02 01")
        yield self._der("p384", "30 81 b6 02 01 00 30 10 06 07 2a 86 48 ce 3d 02 01")
        yield self._der("sec1", "30 77 02 01 01 04 20")
        yield self._der("ed25519", "30 2e 02 01 00 30 05 06 03 2b 65 70 04 22 04 20")
        yield self._der("openssh", b"openssh-key-v1\0".hex())
        private = self.run(_WORD, 43)
        yield Planted("jwk", json.dumps({"kty": "EC", "crv": "P-256", "x": "x", "d": private}), private)
        body = self.run(_BASE64, 64)
        yield Planted("putty", f"PuTTY-User-{'Key'}-File-3: ssh-ed25519\nPrivate-Lines: 1\n{body}", body)

    def _ssh2(self) -> tuple[str, str]:
        body = self.run(_BASE64, 64)
        return f"---- {'BEGIN'} SSH2 ENCRYPTED PRIVATE KEY ----\n{body}\n", body

    def _named(self) -> Iterator[Planted]:
        for form in (
            "aws_secret_access_{}={}",
            "SecretAccess{1}: '{0}'",
            '"secretAccess{1}": "{0}"',
            "<SecretAccess{1}>{0}</",
        ):
            value = self.run(_BASE64, 40)
            text = form.format("key", value) if form.startswith("aws") else form.format(value, "Key")
            yield Planted("aws secret", text, value)
        account, shared = self.run(_BASE64, 86), self.run(_BASE64, 43)
        yield Planted("azure storage", f"AccountName=x;Account{'Key'}={account}==;Suffix=y", account)
        yield Planted("azure bus", f"Endpoint=sb://x/;SharedAccess{'Key'}={shared}=", shared)
        signature = self.run(_WORD, 43)
        yield Planted(
            "azure sas", f"https://x.blob.core.windows.net/y?sv=2022-11-02&sig={signature}%3D", signature
        )
        bare = self.run(_BASE64, 76) + "+A" + "St" + self.run(_BASE64, 6) + "=="
        yield Planted("azure bare", f"key: {bare}", bare)
        telegram = "AA" + self.run(_WORD, 33)
        yield Planted(
            "telegram",
            f"bot{self.run('123456789', 9)}\nurl = '{self.run('123456789', 9)}:{telegram}'",
            telegram,
        )
        npm = self.run(_WORD, 30)
        yield Planted("npmrc line", f"//registry.example/:_auth{'Token'}={npm}", npm)

    def _signed(self) -> Iterator[Planted]:
        for header in ({"alg": "HS256", "typ": "JWT"}, {"typ": "JWT", "alg": "RS256", "kid": "x"}):
            claims = _b64url({"sub": self.run(_WORD, 12), "admin": True})
            yield Planted(
                "jwt", f"Authorization: Bearer {_b64url(header)}.{claims}.{self.run(_WORD, 43)}", claims
            )
        yield Planted(
            "jwt in an address",
            f"x?jwt%3D{_b64url({'alg': 'HS256'})}.{(claims := _b64url({'sub': self.run(_WORD, 9)}))}.{self.run(_WORD, 43)}",
            claims,
        )

    def _addresses(self) -> Iterator[Planted]:
        forms = (
            "postgres://app:{}@db.internal:5432/main",
            "DATABASE_URL=mysql+pymysql://root:{}@localhost/app",
            "redis://:{}@cache:6379/0",
            "git clone https://deploy:{}@git.internal/x.git",
            "amqps://u:{}@[::1]:5671//",
            "mongodb+srv://u%40x:{}@one,two/db",
            '{{"url": "https:\\/\\/deploy:{}@git.internal\\/x"}}',
            "app:{}@tcp(db:3306)/main",
            "Server=db;User Id=sa;Password={};Encrypt=true",
            "jdbc:postgresql://db/main?user=app&password={}",
        )
        for number, form in enumerate(forms):
            password = self.password().replace("!", "%21")
            yield Planted(f"address {number}", form.format(password), password)

    def _logins(self) -> Iterator[Planted]:
        password = self.password()
        yield Planted("netrc", f"machine git.internal\n  login deploy\n  password {password}\n", password)
        for form in (
            '{{"auths": {{"registry": {{"auth": "{}"}}}}}}',
            "_auth = {}",
            "Authorization: Basic {}",
        ):
            coded = _b64(f"deploy:{self.password()}".encode())
            yield Planted("basic", form.format(coded), coded)
        token, serial = (
            self.run(_WORD, 40),
            f"{self.run(_HEX, 8)}-{self.run(_HEX, 4)}-4{self.run(_HEX, 3)}-8{self.run(_HEX, 3)}-{self.run(_HEX, 12)}",
        )
        config = f"kind: Config\ncurrent-context: main\nusers:\n- name: me\n  user:\n    token: {token}\n"
        yield Planted("kubeconfig", config, token)
        password = self.password()
        state = {"version": 4, "terraform_version": "1.9.0", "lineage": serial, "outputs": {"pw": password}}
        yield Planted("terraform", json.dumps(state, indent=2), password)


NAMES = """
    .env .env.local .env.production .env.development.local .ENV .Env.Test .envrc .env~ .env.bak .env.old .env.swp .#env.env
    #.env# .env-prod .env_prod .env.json prod.env config/app.env .flaskenv .dev.vars .netrc _netrc .netrc.orig .npmrc .pypirc
    .pgpass .my.cnf .git-credentials .dockercfg .htpasswd .vault-token .docker/config.json credentials credentials.json
    Credentials.yml credentials.py gcp_credentials.json kubeconfig kubeconfig.yaml dev.kubeconfig .kube/config .aws/credentials
    .ssh/id_ed25519 .ssh/config id_rsa id_ecdsa.old server.key server.pem server.PEM tls.key.bak app.p8 app.p12 app.pfx
    app.jks app.keystore app.jceks app.keytab vault.kdbx vpn.ovpn terraform.tfstate terraform.tfstate.backup prod.tfvars
    prod.auto.tfvars prod.tfvars.json secrets.yaml secrets.toml .secrets.toml client_secret_1.json service-account.json
    wp-config.php .s3cfg .boto rclone.conf .terraformrc
""".split()
"""Files whose content nobody asks for."""


def in_code(text: str) -> str:
    """The text in the middle of a program that is about something else."""
    lines = [f"def step_{number}(value):\n    return value + {number}\n" for number in range(12)]
    quoted = "".join(f"    # {line}\n" for line in text.split("\n"))
    return "".join([*lines[:6], "def load():\n", quoted, "    return None\n", *lines[6:]])


def _friend(make: Callable[[Mint], str]) -> str:
    return make(Mint(7))


FALSE_FRIENDS: dict[str, str] = {
    "hashes.py": _friend(
        lambda m: (
            f"SHA1 = '{m.run(_HEX, 40)}'\nSHA256 = 'sha256:{m.run(_HEX, 64)}'\nMD5 = '{m.run(_HEX, 32)}'\n"
        )
    ),
    "uuids.py": _friend(
        lambda m: (
            f"A = '{m.run(_HEX, 8)}-{m.run(_HEX, 4)}-4{m.run(_HEX, 3)}-a{m.run(_HEX, 3)}-{m.run(_HEX, 12)}'\n"
        )
    ),
    "image.css": _friend(
        lambda m: (
            f".x {{ background: url(data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA{m.run(_BASE64, 900)}==) }}\n"
        )
    ),
    "jpeg.py": _friend(lambda m: f"JPEG = '/9j/4AAQSkZJRgABAQ{m.run(_BASE64, 400)}'\n"),
    "wheel.txt": _friend(lambda m: f"x==1.0 --hash=sha256:{m.run(_HEX, 64)}\n"),
    "integrity.html": _friend(lambda m: f'<script integrity="sha384-{m.run(_BASE64, 64)}"></script>\n'),
    "test_token.py": "token = 'token'\nTOKEN = 'test-token-123'\napi_token = 'abc'\naccess_token = 'fixture-access-token'\n",
    "tokens.json": '{"token": "identifier", "access_token": "xxxx", "refresh_token": "..."}\n',
    "settings.py": "SECRET_KEY = os.environ['SECRET_KEY']\nPASSWORD = getenv('DB_PASSWORD')\nAWS_SECRET_ACCESS_KEY = None\n",
    "addresses.py": "A = 'postgres://user:password@localhost/db'\nB = f'https://{user}:{token}@host/x'\nC = 'http://localhost:8080/@scope'\nD = 'redis://:$PASSWORD@cache'\nE = 'https://example.org:443/a@b'\nF = 'docker://alpine:3.19@sha256:0f'\n",
    "compose.yaml": "url: postgres://postgres:postgres@db/app\nother: amqp://guest:guest@mq\nthird: mysql://${USER}:${PASS}@db\n",
    "prefixes.md": "Keys begin with AKIA, ghp_, sk-proj-, xoxb- or glpat-; a JWT begins with eyJ and has two dots.\n",
    "classes.html": '<div class="sk-circle sk-spinner-grow-and-shrink-slowly task-proj-board"></div>\n',
    "public.txt": _friend(
        lambda m: (
            f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{m.run(_WORD, 43)} me@here\n-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A{m.run(_BASE64, 32)}\n-----END PUBLIC KEY-----\n"
        )
    ),
    "certificate.txt": _friend(
        lambda m: (
            f"-----BEGIN CERTIFICATE-----\nMIIDXTCCAkWgAwIBAgIJ{m.run(_BASE64, 44)}\n-----END CERTIFICATE-----\n"
        )
    ),
    "credentials_provider.py": "class CredentialsProvider:\n    def load(self):\n        return None\n",
    "credentials.go": "package aws\n\ntype Credentials struct{ Key string }\n",
    "kubeconfig_test.go": "package kube\n\nfunc TestKubeconfig() {}\n",
    ".env.example": "DB_PASSWORD=\nAPI_TOKEN=changeme\n",
    ".env.local.example": "DB_PASSWORD=\n",
    "secrets.py": "def secret_name(name):\n    return name\n",
    "environment.py": "ENV = 'test'\n",
    "netrc.md": "Write `machine HOST login USER password PASSWORD` on one line.\n",
    "basic.py": "headers = {'Authorization': 'Basic ' + coded, 'X': 'Bearer ' + token}\n",
    "jwk.json": _friend(lambda m: f'{{"kty": "RSA", "n": "{m.run(_WORD, 86)}", "e": "AQAB"}}\n'),
    "state.py": "terraform_version = '1.9.0'\nlineage = None\n",
    "odd.sql": "SELECT * FROM users WHERE password = crypt($1, password);\n",
}
"""Files that go in, though they look a little like the others. None of what is random in them is a secret."""
