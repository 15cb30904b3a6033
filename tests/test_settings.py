from __future__ import annotations

import ast
import copy
import inspect
import itertools
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from careflow_storage import BackblazeStorage
from careflow_storage.errors import InvalidInputError, NotConfiguredError
from careflow_storage.settings import StorageSettings, settings_from_environment
from tests.support.frames import recorded

KEY_ID = "0041234567890ab0000000001"
SECRET = "K004AbCdEfGhIjKlMnOpQrStUvWxYz1"
ENDPOINT = "https://s3.us-west-004.backblazeb2.com"
COMPLETE = {
    "BACKBLAZE_KEY_ID": KEY_ID,
    "BACKBLAZE_APPLICATION_KEY": SECRET,
    "BACKBLAZE_BUCKET_NAME": "careflow-recordings-prod",
    "BACKBLAZE_ENDPOINT": ENDPOINT,
    "BACKBLAZE_REGION": "us-west-004",
}


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the secrets of this machine."""
    monkeypatch.setattr("careflow_storage.settings._SECRETS_DIR", tmp_path / "no-secrets")


def set_environment(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def settings(**values: Any) -> StorageSettings:
    return StorageSettings(
        **{
            "key_id": KEY_ID,
            "application_key": SECRET,
            "bucket_name": "careflow",
            "endpoint": ENDPOINT,
        }
        | values
    )


def secret_of(found: StorageSettings) -> str:
    assert found.application_key is not None
    return found.application_key.get_secret_value()


class TestSources:
    def test_given_nothing_then_every_missing_variable_is_named(self) -> None:
        found = StorageSettings()
        assert not found.is_configured
        assert not found.is_b2
        assert found.missing_variables() == (
            "BACKBLAZE_KEY_ID",
            "BACKBLAZE_APPLICATION_KEY",
            "BACKBLAZE_BUCKET_NAME",
            "BACKBLAZE_ENDPOINT",
        )

    def test_given_the_variables_of_the_guide_then_it_is_configured(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **COMPLETE)
        found = StorageSettings()
        assert found.is_configured
        assert found.is_b2
        assert found.missing_variables() == ()
        assert (found.key_id, secret_of(found), found.bucket_name) == (
            KEY_ID,
            SECRET,
            "careflow-recordings-prod",
        )
        assert (found.endpoint, found.region) == (ENDPOINT, "us-west-004")

    @pytest.mark.parametrize("prefix", ["", "\ufeff"], ids=["plain", "byte order mark"])
    def test_given_an_env_file_in_the_working_directory_then_it_is_read(
        self, tmp_path: Path, prefix: str
    ) -> None:
        lines = [f"{name}='{value}'" for name, value in COMPLETE.items()]
        (tmp_path / ".env").write_text(prefix + "\n".join(lines), encoding="utf-8")
        assert StorageSettings().is_configured
        assert StorageSettings(_env_file=None).missing_variables()

    def test_given_another_env_file_then_it_replaces_the_usual_one(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("BACKBLAZE_BUCKET_NAME=usual-bucket")
        (tmp_path / "prod.env").write_text("BACKBLAZE_BUCKET_NAME=other-bucket")
        assert StorageSettings(_env_file="prod.env").bucket_name == "other-bucket"

    def test_given_an_env_file_in_utf_16_then_the_error_says_how_to_save_it(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / ".env").write_text(f"BACKBLAZE_APPLICATION_KEY={SECRET}", encoding="utf-16")
        with pytest.raises(InvalidInputError, match="UTF-8") as caught:
            StorageSettings()
        assert caught.value.__context__ is None

    @pytest.mark.parametrize("usual", [True, False])
    def test_given_a_secrets_directory_then_its_files_are_read_without_their_line_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usual: bool
    ) -> None:
        folder = tmp_path / "secrets"
        folder.mkdir()
        (folder / "backblaze_key_id").write_text(KEY_ID + "\n")
        (folder / "backblaze_application_key").write_text(SECRET + "\r\n")
        (folder / "another_folder").mkdir()
        if usual:
            monkeypatch.setattr("careflow_storage.settings._SECRETS_DIR", folder)
            found = StorageSettings()
        else:
            found = StorageSettings(_secrets_dir=folder)
        assert (found.key_id, secret_of(found)) == (KEY_ID, SECRET)

    def test_given_a_value_in_all_places_then_argument_environment_file_secret_is_the_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = "BACKBLAZE_BUCKET_NAME"
        (tmp_path / "backblaze_bucket_name").write_text("from-secret")
        monkeypatch.setenv("AWS_S3_BUCKET", "from-aws")
        places: dict[str, Any] = {"_secrets_dir": tmp_path}
        assert StorageSettings(**places).bucket_name == "from-secret"
        (tmp_path / ".env").write_text(f"{name}=from-file")
        assert StorageSettings(**places).bucket_name == "from-file"
        monkeypatch.setenv(name, "from-environment")
        assert StorageSettings(**places).bucket_name == "from-environment"
        places["bucket_name"] = "from-argument"
        assert StorageSettings(**places).bucket_name == "from-argument"

    def test_given_an_empty_variable_then_it_counts_as_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **COMPLETE | {"BACKBLAZE_KEY_ID": ""})
        assert StorageSettings().missing_variables() == ("BACKBLAZE_KEY_ID",)
        monkeypatch.setenv("BACKBLAZE_KEY_ID", "  ")
        assert StorageSettings().missing_variables() == ("BACKBLAZE_KEY_ID",)

    def test_given_unknown_variables_then_they_are_ignored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BACKBLAZE_FUTURE", "1")
        (tmp_path / ".env").write_text("BACKBLAZE_OTHER=1\nDATABASE_URL=x")
        assert StorageSettings(unknown=1) == StorageSettings(_env_file=None)

    def test_given_tuning_variables_then_they_are_parsed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(
            monkeypatch,
            BACKBLAZE_PART_SIZE="10485760",
            BACKBLAZE_IDLE_TIMEOUT="2.5",
            BACKBLAZE_ALLOW_HTTP="true",
            BACKBLAZE_CHECKSUM="crc32",
        )
        found = StorageSettings()
        assert (found.part_size, found.idle_timeout) == (10 * 1024 * 1024, 2.5)
        assert (found.allow_http, found.checksum) == (True, "crc32")


class TestAwsNames:
    AWS_PAIR = (("AWS_ACCESS_KEY_ID", "aws-id"), ("AWS_SECRET_ACCESS_KEY", "aws-secret"))
    AWS_PLACE = (
        ("AWS_REGION", "eu-central-003"),
        ("AWS_ENDPOINT", "https://s3.eu-central-003.backblazeb2.com"),
    )

    def test_given_only_aws_names_then_all_of_them_are_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = dict(self.AWS_PAIR + self.AWS_PLACE, AWS_S3_BUCKET="aws-bucket")
        set_environment(monkeypatch, **names)
        found = StorageSettings()
        assert found.is_configured
        assert (found.key_id, secret_of(found)) == ("aws-id", "aws-secret")
        assert (found.region, found.endpoint) == tuple(dict(self.AWS_PLACE).values())
        assert found.bucket_name == "aws-bucket"

    def test_given_aws_names_in_the_env_file_and_in_secrets_then_they_are_used(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / ".env").write_text("AWS_ACCESS_KEY_ID=aws-id\nAWS_S3_BUCKET=aws-bucket")
        (tmp_path / "aws_secret_access_key").write_text("aws-secret")
        found = StorageSettings(_secrets_dir=tmp_path)
        assert found.missing_variables() == ("BACKBLAZE_ENDPOINT",)
        assert secret_of(found) == "aws-secret"

    def test_given_both_families_then_backblaze_is_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = dict(self.AWS_PAIR + self.AWS_PLACE, AWS_S3_BUCKET="aws-bucket")
        set_environment(monkeypatch, **names, **COMPLETE)
        found = StorageSettings()
        assert (found.key_id, secret_of(found)) == (KEY_ID, SECRET)
        assert (found.region, found.endpoint) == ("us-west-004", ENDPOINT)
        assert found.bucket_name == "careflow-recordings-prod"

    @pytest.mark.parametrize(
        ("given", "missing"),
        [
            ({"BACKBLAZE_KEY_ID": KEY_ID}, "BACKBLAZE_APPLICATION_KEY"),
            ({"BACKBLAZE_APPLICATION_KEY": SECRET}, "BACKBLAZE_KEY_ID"),
        ],
    )
    def test_given_half_of_backblazes_pair_then_aws_never_completes_it(
        self, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
    ) -> None:
        set_environment(monkeypatch, **dict(self.AWS_PAIR), **given)
        assert missing in StorageSettings().missing_variables()

    def test_given_half_of_the_pair_as_an_argument_then_aws_never_completes_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **dict(self.AWS_PAIR))
        assert StorageSettings(key_id=KEY_ID).application_key is None
        assert StorageSettings(key_id=None).application_key is None

    @pytest.mark.parametrize(
        ("given", "place"),
        [
            ({"BACKBLAZE_REGION": "us-west-004"}, (ENDPOINT, "us-west-004")),
            ({"BACKBLAZE_ENDPOINT": ENDPOINT}, (ENDPOINT, "us-west-004")),
            ({"BACKBLAZE_ENDPOINT": "https://minio"}, ("https://minio", "us-east-1")),
        ],
    )
    def test_given_one_of_backblazes_place_then_the_aws_place_is_ignored(
        self, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], place: tuple[str, str]
    ) -> None:
        set_environment(monkeypatch, **dict(self.AWS_PLACE), **given)
        found = StorageSettings()
        assert (found.endpoint, found.region) == place

    def test_given_an_invalid_aws_value_then_the_error_names_its_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT", "https://minio/bucket")
        with pytest.raises(ValidationError, match=r"BACKBLAZE_ENDPOINT \(or AWS_ENDPOINT\)"):
            StorageSettings()


class TestAmazonsOwn:
    """The variables that Lambda and ECS set in every process are ignored for B2."""

    LAMBDA: ClassVar = {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "ASIAQ3EGVYXEXAMPLE22",
        "AWS_SECRET_ACCESS_KEY": "s" * 40,
        "AWS_SESSION_TOKEN": "the-token",
    }
    OURS: ClassVar = {name: value for name, value in COMPLETE.items() if name != "BACKBLAZE_REGION"}

    @pytest.mark.parametrize(
        "region", ["us-east-1", "eu-central-1", "us-gov-west-1", "ap-southeast-2", "garage-1"]
    )
    @pytest.mark.parametrize("where", ["environment", "file"])
    def test_given_a_forgotten_endpoint_then_no_region_of_amazon_replaces_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, region: str, where: str
    ) -> None:
        variables = self.OURS | self.LAMBDA | {"AWS_REGION": region}
        del variables["BACKBLAZE_ENDPOINT"]
        if where == "environment":
            set_environment(monkeypatch, **variables)
        else:
            lines = (f"export {name}={value}" for name, value in variables.items())
            (tmp_path / ".env").write_text("\r\n".join(lines))
        found = StorageSettings()
        assert found.missing_variables() == ("BACKBLAZE_ENDPOINT",)
        assert (found.endpoint, found.region) == (None, None)

    async def test_given_a_forgotten_endpoint_when_opened_then_the_hint_says_where_to_find_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **self.OURS | self.LAMBDA)
        monkeypatch.delenv("BACKBLAZE_ENDPOINT")
        with pytest.raises(NotConfiguredError, match=r"BACKBLAZE_ENDPOINT missing.*AWS_REGION"):
            await BackblazeStorage().__aenter__()

    @pytest.mark.parametrize("name", ["BACKBLAZE_ENDPOINT", "AWS_ENDPOINT"])
    def test_given_b2s_endpoint_then_the_region_of_the_function_is_ignored(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        set_environment(monkeypatch, **self.LAMBDA, **{name: ENDPOINT})
        assert StorageSettings().region == "us-west-004"

    def test_given_amazons_pair_for_b2_then_the_pair_is_missing_and_the_hint_says_why(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **self.LAMBDA, BACKBLAZE_ENDPOINT=ENDPOINT)
        found = StorageSettings(bucket_name="careflow")
        missing = ("BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY")
        assert found.missing_variables() == missing
        assert found.session_token is None
        assert "AWS_ACCESS_KEY_ID" in str(NotConfiguredError(missing))

    @pytest.mark.parametrize("key_id", ["AKIAQ3EGVYXEXAMPLE22", "ASIAQ3EGVYXEXAMPLE22"])
    def test_given_amazons_key_as_backblazes_then_it_is_refused(self, key_id: str) -> None:
        with pytest.raises(ValidationError, match="an Amazon key"):
            settings(key_id=key_id)

    def test_given_half_a_pair_when_opened_then_the_hint_says_that_halves_never_mix(self) -> None:
        assert "AWS_*" in str(NotConfiguredError(("BACKBLAZE_APPLICATION_KEY",)))


class TestSessionToken:
    PAIR: ClassVar = {
        "AWS_ACCESS_KEY_ID": "ASIAQ3EGVYXEXAMPLE22",
        "AWS_SECRET_ACCESS_KEY": "s" * 40,
        "AWS_ENDPOINT": "https://minio.internal",
    }

    @pytest.mark.parametrize("where", ["environment", "file", "secrets"])
    def test_given_a_token_beside_its_pair_then_it_is_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
    ) -> None:
        variables = self.PAIR | {"AWS_SESSION_TOKEN": "the-token"}
        if where == "environment":
            set_environment(monkeypatch, **variables)
        elif where == "file":
            (tmp_path / ".env").write_text("".join(f"{n}={v}\n" for n, v in variables.items()))
        else:
            for name, value in variables.items():
                (tmp_path / name.lower()).write_text(value + "\n")
        found = StorageSettings(_secrets_dir=tmp_path)
        assert found.session_token is not None
        assert found.session_token.get_secret_value() == "the-token"
        assert "the-token" not in repr(found) + found.model_dump_json()

    def test_given_a_temporary_key_without_its_token_then_the_error_names_the_variable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **self.PAIR)
        with pytest.raises(ValidationError, match="AWS_SESSION_TOKEN"):
            StorageSettings()

    def test_given_a_token_in_another_place_than_the_pair_then_it_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-pair")
        lines = (self.PAIR | {"AWS_ACCESS_KEY_ID": "lasting"}).items()
        (tmp_path / ".env").write_text("".join(f"{n}={v}\n" for n, v in lines))
        found = StorageSettings()
        assert (found.key_id, found.session_token) == ("lasting", None)

    def test_given_backblazes_pair_then_amazons_token_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **COMPLETE, AWS_SESSION_TOKEN="of-another-pair")
        assert StorageSettings().session_token is None

    def test_given_a_token_for_b2_then_it_is_refused(self) -> None:
        with pytest.raises(ValidationError, match=r"BACKBLAZE_SESSION_TOKEN.*no temporary keys"):
            settings(session_token="the-token")


class TestPlace:
    @pytest.mark.parametrize("region", ["us-west-004", "US-West-004", "ca-east-006", "ap-x-017"])
    def test_given_a_region_then_b2s_endpoint_follows(self, region: str) -> None:
        found = StorageSettings(region=region)
        assert found.endpoint == f"https://s3.{region.lower()}.backblazeb2.com"
        assert found.region == region.lower()

    @pytest.mark.parametrize(
        ("endpoint", "normal"),
        [
            (ENDPOINT, ENDPOINT),
            (f" {ENDPOINT}/\n", ENDPOINT),
            ("s3.us-west-004.backblazeb2.com", ENDPOINT),
            ("HTTPS://S3.US-West-004.BackblazeB2.com:443/", ENDPOINT),
            ("https://minio.internal:9000", "https://minio.internal:9000"),
            ("https://my_minio:443", "https://my_minio"),
            ("http://localhost:8333", "http://localhost:8333"),
            ("http://s3.localhost:80", "http://s3.localhost"),
            ("http://127.0.0.2:8333", "http://127.0.0.2:8333"),
            ("http://[::1]:8333", "http://[::1]:8333"),
        ],
    )
    def test_given_an_endpoint_then_it_gets_one_form(self, endpoint: str, normal: str) -> None:
        assert StorageSettings(endpoint=endpoint).endpoint == normal

    @pytest.mark.parametrize(
        ("values", "region"),
        [
            ({"endpoint": ENDPOINT}, "us-west-004"),
            ({"endpoint": ENDPOINT, "region": "US-WEST-004"}, "us-west-004"),
            ({"endpoint": "https://minio"}, "us-east-1"),
            ({"endpoint": "https://ceph", "region": "RegionOne"}, "RegionOne"),
            ({"endpoint": "https://s3.us-west-004.backblazeb2.com.example"}, "us-east-1"),
        ],
    )
    def test_given_an_endpoint_then_the_region_follows(
        self, values: dict[str, str], region: str
    ) -> None:
        assert StorageSettings(**values).region == region  # type: ignore[arg-type]  # all are str

    def test_given_a_region_of_another_provider_alone_then_the_endpoint_is_missing(self) -> None:
        found = StorageSettings(region="Region_One")
        assert "BACKBLAZE_ENDPOINT" in found.missing_variables()

    @pytest.mark.parametrize(
        "region", ["eu-central", "us-east-1", "us-west-4", "us-west-0004", "us-west", "usw-004"]
    )
    def test_given_a_region_that_b2_cannot_have_then_the_real_ones_are_named(
        self, region: str
    ) -> None:
        with pytest.raises(ValidationError, match=r"BACKBLAZE_REGION.*eu-central-003, ca-east-006"):
            StorageSettings(region=region)
        assert StorageSettings(region=region, endpoint="https://minio").region == region

    @pytest.mark.parametrize("region", ["https://s3.us-west-004.backblazeb2.com", "us west 004"])
    def test_given_an_invalid_region_then_it_is_refused(self, region: str) -> None:
        with pytest.raises(ValidationError, match="BACKBLAZE_REGION"):
            StorageSettings(region=region, endpoint="https://minio")

    def test_given_region_and_endpoint_that_differ_then_both_are_named(self) -> None:
        with pytest.raises(ValidationError, match=r"BACKBLAZE_REGION.*BACKBLAZE_ENDPOINT.*us-west"):
            StorageSettings(endpoint=ENDPOINT, region="eu-central-003")

    @pytest.mark.parametrize(
        ("endpoint", "reason"),
        [
            ("ftp://example.com", "https"),
            ("https://", "host"),
            ("https:///bucket", "host|path"),
            ("https://user:password@example.com", "password"),
            ("https://example.com/bucket", "path"),
            ("https://example.com?x=1", "query"),
            ("https://example.com#x", "fragment"),
            ("https://example.com?", "query"),
            ("https://example.com:0", "port"),
            ("https://example.com:99999", "port"),
            ("https://example.com:abc", "port"),
            ("https://example.com:", "port"),
            ("https://exa mple.com", "space"),
            ("https://exämple.com", "character"),
            ("https://-x.com", "host"),
            ("https://a..b", "host"),
            ("https://[::g]", "host"),
            ("https://[::1", "host"),
            ("https://[v1.a:b]", "host"),
            ("https://" + "a." * 130 + "com", "host"),
            ("https://careflow.s3.us-west-004.backblazeb2.com", "without the bucket"),
            ("https://f004.backblazeb2.com", "s3.<region>"),
            ("https://api.backblazeb2.com", "s3.<region>"),
            ("https://api004.backblazeb2.com", "s3.<region>"),
            ("https://backblazeb2.com", "s3.<region>"),
            ("https://us-west-004.backblazeb2.com", "s3.<region>"),
            ("https://s3-us-west-004.backblazeb2.com", "s3.<region>"),
            ("https://s3.us-east-1.backblazeb2.com", "us-east-005"),
            ("https://s3.eu-central.backblazeb2.com", "eu-central-003"),
            ("https://s3.us-west-04.backblazeb2.com", "us-west-004"),
            ("https://s3.us-west-004.backblaze.com", "s3.<region>"),
            ("https://s3.us-west-004.backblaze2.com", "s3.<region>"),
            ("https://s3.us-west-004.blackblazeb2.com", "s3.<region>"),
            ("https://s3.us-west-004.backblazeb2.co", "s3.<region>"),
            ("https://s3.us-west-004.backblazeb2", "s3.<region>"),
            ("https://s3.us-west-004.backblazeb2.com.", "host"),
            ("us-west-004", "region; the endpoint is https://s3.us-west-004"),
            ("https://s3.us-west-004.backblazeb2.com/careflow", "path"),
            ("https://s3.us-west-004.backblazeb2.com:8443", "s3.<region>"),
            ("http://example.com", "BACKBLAZE_ALLOW_HTTP"),
            ("http://192.168.1.10:9000", "BACKBLAZE_ALLOW_HTTP"),
            ("http://127.0.0.1.example.com", "BACKBLAZE_ALLOW_HTTP"),
            ("http://s3.us-west-004.backblazeb2.com", "https"),
        ],
    )
    def test_given_an_invalid_endpoint_then_the_error_gives_the_reason(
        self, endpoint: str, reason: str
    ) -> None:
        with pytest.raises(ValidationError, match=f"BACKBLAZE_ENDPOINT.*({reason})"):
            StorageSettings(endpoint=endpoint)

    def test_given_http_to_another_machine_when_allowed_then_it_is_accepted(self) -> None:
        found = StorageSettings(endpoint="http://minio:9000", allow_http=True)
        assert found.endpoint == "http://minio:9000"

    def test_given_http_to_b2_then_it_is_refused_even_when_allowed(self) -> None:
        with pytest.raises(ValidationError, match="B2 has no http"):
            StorageSettings(endpoint=ENDPOINT.replace("https", "http"), allow_http=True)

    @limits(deadline=None)
    @given(st.text(max_size=40), st.sampled_from(["", "https://", "http://", "https://[", "//"]))
    def test_given_any_text_as_endpoint_then_it_is_missing_normal_or_refused(
        self, text: str, prefix: str
    ) -> None:
        try:
            found = StorageSettings(endpoint=prefix + text)
        except ValidationError:
            return
        assert found.endpoint is None or StorageSettings(endpoint=found.endpoint) == found


class TestValues:
    @pytest.mark.parametrize("master", ["0041234567ab", "ABCDEF012345"])
    def test_given_a_master_key_for_b2_then_the_error_names_an_application_key(
        self, master: str
    ) -> None:
        with pytest.raises(ValidationError, match=r"BACKBLAZE_KEY_ID.*master.*application key"):
            settings(key_id=master)
        assert settings(key_id=master, endpoint="https://minio").key_id == master

    def test_given_swapped_keys_then_they_are_refused_before_one_is_shown(self) -> None:
        with pytest.raises(ValidationError, match="swapped") as caught:
            settings(key_id=SECRET, application_key=KEY_ID)
        assert SECRET not in repr(caught.value.errors())

    @pytest.mark.parametrize(
        ("name", "b2", "s3"),
        [
            ("careflow-recordings-prod", True, True),
            ("a" * 63, True, True),
            ("a.b-c1", True, True),
            ("abc", False, True),
            ("CareFlow", True, False),
            ("b2-reports", False, True),
            ("B2-reports", False, False),
            ("ab", False, False),
            ("a" * 64, False, False),
            ("under_score", False, False),
            ("-careflow", False, False),
            ("careflow.", False, False),
            ("care..flow", False, False),
            ("192.168.10.1", False, False),
            ("care/flow", False, False),
            ("größer", False, False),
        ],
    )
    def test_given_a_bucket_name_then_the_rules_of_its_server_decide(
        self, name: str, b2: bool, s3: bool
    ) -> None:
        for endpoint, accepted in ((ENDPOINT, b2), ("https://minio", s3)):
            if accepted:
                assert settings(bucket_name=name, endpoint=endpoint).bucket_name == name
            else:
                with pytest.raises(ValidationError, match="BACKBLAZE_BUCKET_NAME"):
                    settings(bucket_name=name, endpoint=endpoint)

    @pytest.mark.parametrize("field", ["key_id", "application_key", "bucket_name", "region"])
    @pytest.mark.parametrize("value", ['"quoted"', "'quoted'", "in side", "a\nb", "a\u200bb", "é"])
    def test_given_a_badly_pasted_value_then_its_variable_is_named(
        self, field: str, value: str
    ) -> None:
        with pytest.raises(ValidationError, match=f"BACKBLAZE_{field.upper()}"):
            settings(**{field: value})

    def test_given_blanks_around_the_keys_then_they_are_removed(self) -> None:
        found = settings(key_id=f" {KEY_ID}\t", application_key=SecretStr(f"{SECRET}\r\n"))
        assert (found.key_id, secret_of(found)) == (KEY_ID, SECRET)

    @pytest.mark.parametrize(
        ("field", "least", "most"),
        [
            ("part_size", 5 * 1024 * 1024, 5_000_000_000),
            ("multipart_threshold", 1, 5_000_000_000),
            ("transfer_concurrency", 1, 1000),
            ("max_connections", 1, 10_000),
            ("memory_budget", 8 * 1024 * 1024, None),
            ("retry_attempts", 1, 100),
        ],
    )
    def test_given_a_tuning_value_then_its_bounds_hold(
        self, field: str, least: int, most: int | None
    ) -> None:
        assert getattr(settings(**{field: least}), field) == least
        beyond = [least - 1]
        if most is not None:
            assert getattr(settings(**{field: most}), field) == most
            beyond.append(most + 1)
        for value in beyond:
            with pytest.raises(ValidationError, match=f"BACKBLAZE_{field.upper()}: "):
                settings(**{field: value})

    @pytest.mark.parametrize(
        ("text", "size"),
        [
            *(("64MiB", 64 * 1024**2), ("64 mib", 64 * 1024**2), ("1.5GiB", 1536 * 1024**2)),
            *(("64MB", 64_000_000), ("67108864", 67108864), (" 67108864 ", 67108864)),
        ],
    )
    @pytest.mark.parametrize("field", ["part_size", "multipart_threshold", "memory_budget"])
    def test_given_a_size_with_a_unit_then_it_is_an_int_of_bytes(
        self, field: str, text: str, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_environment(monkeypatch, **{f"BACKBLAZE_{field.upper()}": text})
        for found in (getattr(settings(**{field: text}), field), getattr(settings(), field)):
            assert (type(found), found) == (int, size)

    @pytest.mark.parametrize("text", ["MiB", "-64MiB", "64 MiB each", "much", "1MiB", "6GB"])
    def test_given_a_malformed_or_extreme_size_then_it_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError, match="BACKBLAZE_PART_SIZE"):
            settings(part_size=text)

    @pytest.mark.parametrize("field", ["connect_timeout", "idle_timeout", "pool_timeout"])
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "soon"])
    def test_given_a_timeout_that_is_not_positive_and_finite_then_it_is_refused(
        self, field: str, value: object
    ) -> None:
        with pytest.raises(ValidationError, match=f"BACKBLAZE_{field.upper()}: "):
            settings(**{field: value})

    def test_given_a_max_delay_below_the_base_delay_then_both_are_named(self) -> None:
        with pytest.raises(ValidationError, match=r"RETRY_MAX_DELAY.*RETRY_BASE_DELAY"):
            settings(retry_base_delay=2, retry_max_delay=1)

    def test_given_an_unknown_checksum_then_the_known_ones_are_named(self) -> None:
        with pytest.raises(ValidationError, match=r"BACKBLAZE_CHECKSUM: .*crc32"):
            settings(checksum="md4")

    def test_given_a_ca_file_then_it_must_exist(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "ca.pem").touch()
        assert settings(ca_file="~/ca.pem").ca_file == tmp_path / "ca.pem"
        with pytest.raises(ValidationError, match="BACKBLAZE_CA_FILE is not a file"):
            settings(ca_file="other.pem")

    def test_given_every_field_then_it_has_a_docstring(self) -> None:
        # pydantic could read them too, at 20 ms more for every import.
        (body,) = ast.parse(inspect.getsource(StorageSettings)).body
        assert isinstance(body, ast.ClassDef)
        documented = {
            field.target.id
            for field, text in itertools.pairwise(body.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        }
        assert documented == set(StorageSettings.model_fields)


class TestSecrecy:
    def test_given_settings_then_no_representation_contains_the_secret(self) -> None:
        found = settings()
        shown = [
            repr(found),
            str(found),
            f"{found}",
            found.model_dump_json(),
            repr(found.model_dump()),
            repr(found.__dict__),
            repr(dict(found)),
        ]
        assert not [text for text in shown if SECRET in text]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"application_key": f"{SECRET} {SECRET}"},
            {"application_key": [SECRET]},
            {"application_key": SECRET.encode()},
            {"key_id": SECRET},
            {"bucket_name": SECRET + "_"},
            {"bucket_name": SECRET, "region": SECRET + "/"},
            {"endpoint": f"https://u:{SECRET}@example.com"},
            {"endpoint": f"https://example.com/{SECRET}"},
            {"region": "eu-central-003"},
            {"key_id": "0041234567ab"},
            {"part_size": SECRET},
            {"retry_max_delay": 0},
            {"session_token": SECRET},
        ],
    )
    @pytest.mark.parametrize("way", ["new", "validate", "copy"])
    def test_given_a_mistake_then_no_part_of_the_error_contains_the_secret(
        self, wrong: dict[str, object], way: str
    ) -> None:
        ways: dict[str, Callable[[], object]] = {
            "new": lambda: settings(**wrong),
            "validate": lambda: StorageSettings.model_validate(
                {"application_key": SECRET, "endpoint": ENDPOINT} | wrong
            ),
            "copy": lambda: good.model_copy(update=wrong),
        }
        good = settings()
        with pytest.raises(ValidationError) as caught:
            ways[way]()
        error = caught.value
        shown = [
            str(error),
            repr(error),
            repr(error.errors()),
            error.json(),
            "".join(traceback.format_exception(error)),
        ]
        assert not [text for text in shown if SECRET in text]
        assert error.__context__ is None
        assert error.__cause__ is None

    @pytest.mark.parametrize("name", ["application_key", "session_token"])
    @pytest.mark.parametrize("wrong", [f"{SECRET} {SECRET}", [SECRET], SECRET.encode()])
    def test_given_a_malformed_secret_then_no_local_variable_holds_it(
        self, name: str, wrong: Any
    ) -> None:
        good = settings(endpoint="https://minio")
        ways: list[Callable[[], object]] = [
            lambda: StorageSettings(**{name: wrong}),
            lambda: settings_from_environment(**{name: wrong}),
            lambda: good.model_copy(update={name: wrong}),
        ]
        for way in ways:
            with pytest.raises((ValidationError, InvalidInputError)) as caught:
                way()
            assert SECRET not in recorded(caught.value)

    def test_given_an_assignment_then_it_is_refused_without_showing_the_value(self) -> None:
        found = settings()
        with pytest.raises(ValidationError, match="frozen") as caught:
            setattr(found, "application_key", SECRET)  # noqa: B010 - mypy knows it is a SecretStr
        assert SECRET not in str(caught.value)
        assert secret_of(found) == SECRET


class TestCopies:
    def test_given_a_copy_with_another_region_then_the_endpoint_is_derived_anew(self) -> None:
        first = StorageSettings(region="us-west-004")
        second = first.model_copy(update={"region": "eu-central-003"})
        assert second.endpoint == "https://s3.eu-central-003.backblazeb2.com"
        assert first.region == "us-west-004"

    def test_given_a_copy_with_another_endpoint_then_a_derived_region_follows(self) -> None:
        copied = settings().model_copy(update={"endpoint": "https://minio"})
        assert copied.region == "us-east-1"

    def test_given_a_copy_with_an_invalid_value_then_it_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="BACKBLAZE_PART_SIZE"):
            settings().model_copy(update={"part_size": 1})
        with pytest.raises(ValidationError, match="BACKBLAZE_REGION"):
            settings(region="us-west-004").model_copy(update={"region": "eu-central-003"})

    def test_given_a_copy_then_the_environment_is_not_read_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = settings()
        set_environment(monkeypatch, BACKBLAZE_PART_SIZE="6000000", AWS_REGION="us-east-1")
        assert first.model_copy() == first
        assert first.model_copy(update={"checksum": "sha256"}).part_size == 8 * 1024 * 1024

    def test_given_settings_then_they_can_be_pickled_copied_hashed_and_compared(self) -> None:
        first = settings()
        for same in (
            pickle.loads(pickle.dumps(first)),  # noqa: S301 - our own bytes
            copy.copy(first),
            copy.deepcopy(first),
            first.model_copy(deep=True),
        ):
            assert same == first
            assert hash(same) == hash(first)
        assert first != settings(checksum="crc32")
