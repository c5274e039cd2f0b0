"""``twinsplit certs``: what it writes, with which modes, and what it says."""

import io
import stat
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from twinsplit.certificates.authority import subject_in
from twinsplit.certificates.cli import certs
from twinsplit.certificates.folder import read_authority, read_issued
from twinsplit.certificates.subject import Role
from twinsplit.cli import run as run_command
from twinsplit.errors import SettingsError, TlsError
from twinsplit.transport.tls import TlsFiles


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(certs, arguments, catch_exceptions=False)


def _modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in [folder, *folder.iterdir()]}


def test_keys_are_the_owners_alone_and_the_files_are_what_services_take(folder: Path) -> None:
    _run("init")
    _run("issue", "device", "cam-1")
    assert _modes(folder / "certs/cam-1") == {
        "cam-1": "0o700", "ca.pem": "0o644", "cert.pem": "0o644", "key.pem": "0o600",
    }  # fmt: skip
    assert _modes(folder / "certs")["ca-key.pem"] == "0o600"
    files = TlsFiles(*(folder / "certs/cam-1" / name for name in ("ca.pem", "cert.pem", "key.pem")))
    assert files.server_credentials()
    assert files.channel_credentials()


def test_it_says_what_to_copy_and_what_starts_the_device_there(folder: Path) -> None:
    _run("init")
    said = _run("issue", "device", "cam-1", "--twin", "192.168.1.10:7000", "--out", "out/here").output
    assert "scp -r out/here OTHER_MACHINE:here" in said
    assert (
        "twinsplit device run --id cam-1 --model MODEL_FOLDER --twin 192.168.1.10:7000 "
        "--tls-ca here/ca.pem --tls-cert here/cert.pem --tls-key here/key.pem"
    ) in said


@pytest.mark.parametrize("role", ["device", "edge", "twin", "operator"])
def test_the_line_that_starts_it_is_one_that_the_command_line_takes(folder: Path, role: str) -> None:
    from twinsplit.cli import twinsplit

    _run("init")
    line = _run("issue", role, "x").output.split("there:\n")[1].splitlines()[0].split()
    assert line.pop(0) == "twinsplit"
    command = twinsplit
    context = None
    while hasattr(command, "get_command"):
        context = context or command.make_context("twinsplit", ["--help"], resilient_parsing=True)
        command = command.get_command(context, line.pop(0))
    values, rest, _ = command.make_parser(context).parse_args(line)
    assert values
    assert rest == []


def test_an_authority_is_never_overwritten(folder: Path) -> None:
    _run("init")
    before = (folder / "certs/ca-key.pem").read_bytes()
    with pytest.raises(TlsError, match="already"):
        _run("init")
    assert (folder / "certs/ca-key.pem").read_bytes() == before


def test_without_an_authority_the_command_that_makes_one_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["certs", "issue", "device", "cam-1"]) == 2
    assert "twinsplit certs init certs" in capsys.readouterr().err


def test_a_tar_archive_holds_the_same_and_what_is_said_stays_out_of_it(folder: Path) -> None:
    _run("init")
    result = _run("issue", "device", "cam-1", "--out", "-")
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        assert {entry.name: oct(entry.mode) for entry in tar} == {
            "cam-1": "0o700", "cam-1/ca.pem": "0o644", "cam-1/cert.pem": "0o644", "cam-1/key.pem": "0o600",
        }  # fmt: skip
        certificate = tar.extractfile("cam-1/cert.pem")
        assert certificate is not None
        assert subject_in(x509.load_pem_x509_certificate(certificate.read())) == (Role.DEVICE, "cam-1")
    assert "twinsplit device run" in result.stderr
    assert not (folder / "certs/cam-1").exists()


def test_ensure_makes_what_is_missing_keeps_what_is_there_and_renews_what_has_changed(folder: Path) -> None:
    assert "made, missing" in _run("ensure", "all", "twin:twin@", "device:cam").output
    authority, kept = read_authority(folder / "all/authority"), read_issued(folder / "all/cam")
    said = _run("ensure", "all", "twin:twin@10.0.0.1", "device:cam", "device:new").output.splitlines()
    assert [line.rpartition(" (")[2] for line in said] == ["made, for other hosts)", "kept)", "made, missing)"]
    assert read_issued(folder / "all/cam") == kept
    assert read_authority(folder / "all/authority").key == authority.key
    (folder / "all/cam/ca.pem").write_text("another")
    assert "another authority" in _run("ensure", "all", "device:cam").output


def test_ensure_refuses_two_of_one_folder(folder: Path) -> None:
    for subjects in (["device:a", "edge:a"], ["device:authority"]):
        with pytest.raises(SettingsError, match="folder of two"):
            _run("ensure", "all", *subjects)
    assert not (folder / "all").exists()


def test_the_authoritys_own_folder_is_not_made_one_to_copy_away(folder: Path) -> None:
    _run("init")
    with pytest.raises(TlsError, match="for no other machine"):
        _run("issue", "device", "cam-1", "--out", "certs")
    assert not (folder / "certs/cert.pem").exists()


def test_another_holders_certificate_is_not_replaced_and_ones_own_is(folder: Path) -> None:
    _run("init")
    _run("issue", "device", "cam-1")
    with pytest.raises(SettingsError, match="of somebody else"):
        _run("issue", "edge", "cam-1")
    assert subject_in_folder(folder / "certs/cam-1") == (Role.DEVICE, "cam-1")
    assert _run("issue", "device", "cam-1").exit_code == 0


def test_an_authority_without_its_certificate_is_said_to_be_that(folder: Path) -> None:
    _run("init")
    (folder / "certs/ca.pem").unlink()
    with pytest.raises(TlsError, match=r"without ca\.pem"):
        _run("issue", "device", "cam-1")


@pytest.mark.parametrize("host", ["192.168.1.999", "10.0.0"])
def test_a_mistyped_address_is_no_name(folder: Path, host: str) -> None:
    _run("init")
    with pytest.raises(SettingsError, match="is no host"):
        _run("issue", "edge", "hall", "--host", host)


def test_an_empty_host_is_refused(folder: Path) -> None:
    _run("init")
    with pytest.raises(SettingsError, match="--host is empty"):
        _run("issue", "edge", "hall", "--host", "")


def test_more_days_than_a_date_has_are_a_wrong_option(folder: Path) -> None:
    assert _run("init", "--days", "10000000").exit_code == 2


def test_a_path_with_a_space_can_be_pasted(folder: Path) -> None:
    _run("init")
    assert "scp -r 'out here/cam' OTHER_MACHINE:cam" in _run("issue", "device", "c", "--out", "out here/cam").output


def test_an_authority_that_is_about_to_end_is_named_and_its_certificates_are_kept(folder: Path) -> None:
    _run("init", "certs/authority", "--days", "10")
    first = _run("ensure", "certs", "device:cam-1")
    assert "the authority ends on" in first.output
    assert "(kept)" in _run("ensure", "certs", "device:cam-1").output


def subject_in_folder(folder: Path) -> object:
    held = read_issued(folder)
    assert held is not None
    return subject_in(x509.load_pem_x509_certificate(held.certificate))
