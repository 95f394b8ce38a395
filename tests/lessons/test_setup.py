"""The setup check: says what is wrong and how to fix it."""

from importlib import metadata

from kdlab.lessons import setup as environment


def test_here_all_is_well(capsys):
    assert all(finding.ok for finding in environment.setup_report())
    said = capsys.readouterr().out
    assert "All set." in said and "[fix]" not in said


def test_a_missing_package_and_an_old_one_and_no_teacher_are_told_with_their_remedy(monkeypatch, tmp_path, capsys):
    real = metadata.version

    def version(name):
        if name == "ipywidgets":
            raise metadata.PackageNotFoundError(name)
        return "4.9.0" if name == "transformers" else real(name)

    monkeypatch.setattr(environment.metadata, "version", version)
    monkeypatch.setattr(environment, "DATA", tmp_path)
    bad = [finding for finding in environment.setup_report() if not finding.ok]
    said = capsys.readouterr().out
    assert [b.what.split()[0] for b in bad] == ["transformers", "ipywidgets", "the"]
    assert all(finding.remedy for finding in bad)
    assert "4.9.0 (tested with 5." in said and "pip install -r requirements.txt" in said
    assert "3 to fix" in said


def test_an_unsupported_python_is_told(monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 1))
    finding = environment._python()
    assert not finding.ok and "3.10 to 3.13" in finding.remedy
