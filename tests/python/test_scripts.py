"""The scripts that package, demonstrate and calculate."""

import argparse
import json
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from samcli.yamlhelper import yaml_parse

import al2023
import compose_scene
import cost_table
import demo
import fetch_wheel_file
import hide_avx512
import image_template
import instances_template
import package as make_package
import published
import scale

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / ".runtime/libonnxruntime.so"


def package(out: Path, model: Path) -> subprocess.CompletedProcess[str]:
    """Runs package.py with ONNX Runtime's library in the place of the bootstrap: any binary does."""
    licences = out.parent / "licences"
    (licences / "onnxruntime").mkdir(parents=True, exist_ok=True)
    (licences / "onnxruntime" / "LICENSE").write_text("MIT")
    command = [sys.executable, "scripts/package.py", f"--bootstrap={LIBRARY}", f"--runtime={LIBRARY}"]
    command += [f"--model={model}", f"--licences={licences}", f"--arch={al2023.architecture(LIBRARY)}", f"--out={out}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def model_folder(folder: Path, weights: int) -> Path:
    """A model folder with a file of so many bytes."""
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"files": [{"path": "model.onnx"}]}))
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(weights)
    (folder / "notes.txt").write_text("not served")
    return folder


def test_package_is_complete_and_reproducible(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", 1000)
    archives = []
    for _ in range(2):
        run = package(tmp_path / "fn", model)
        assert run.returncode == 0, run.stderr
        archives.append((tmp_path / "fn.zip").read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(tmp_path / "fn.zip") as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
    assert modes == {
        "bootstrap": 0o755,
        "libonnxruntime.so": 0o755,
        "licences/LICENSE": 0o644,
        "licences/NOTICE": 0o644,
        "licences/onnxruntime/LICENSE": 0o644,
        "model/model.json": 0o644,
        "model/model.onnx": 0o644,
    }


def test_a_graph_that_is_ready_is_kept_while_nothing_else_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Plays `m2fp optimize`, which writes no graph twice in the same order.
    program = tmp_path / "m2fp"
    program.write_text(f"""#!{sys.executable}
import json, pathlib, sys, uuid
model = pathlib.Path(sys.argv[2])
(model / "model.onnx.ort").write_text(str(uuid.uuid4()))
text = json.loads((model / "model.json").read_text()) | {{"optimized": {{"file": {{"path": "model.onnx.ort"}}}}}}
(model / "model.json").write_text(json.dumps(text))
""")
    program.chmod(0o755)
    monkeypatch.setattr(published, "kind", lambda: "AVX2")
    monkeypatch.chdir(ROOT)
    (tmp_path / "licences").mkdir()
    bootstrap, runtime = tmp_path / "bootstrap", tmp_path / "runtime.so"
    for file in (bootstrap, runtime):
        file.write_text("a program")
    model = model_folder(tmp_path / "model", 1000)
    out = tmp_path / "fn"
    paths = {"bootstrap": bootstrap, "runtime": runtime, "model": model, "licences": tmp_path / "licences", "out": out}

    def packaged(m2fp: Path | None = program) -> dict[str, bytes]:
        arguments = argparse.Namespace(**paths, m2fp=m2fp)
        before = make_package.graph_before(arguments)
        make_package.fill(arguments)
        make_package.make_ready(arguments, before)
        return {file.name: file.read_bytes() for file in (out / "model").iterdir()}

    first = packaged()
    assert set(first) == {"model.json", "model.onnx", "model.onnx.ort"}
    assert json.loads(first["model.json"])["optimized"] == {"file": {"path": "model.onnx.ort"}}
    assert packaged() == first
    for changed in (bootstrap, runtime):
        changed.write_text("another program")
        assert packaged()["model.onnx.ort"] != first["model.onnx.ort"]
    (model / "model.json").write_text(json.dumps({"files": [{"path": "model.onnx", "bytes": 1000}]}))
    assert packaged()["model.onnx.ort"] != first["model.onnx.ort"]
    (model / "model.json").write_text(json.dumps({"files": [{"path": "model.onnx"}, {"path": "notes.txt"}]}))
    assert set(packaged()) == {"model.json", "model.onnx", "notes.txt"}, "float weights of their own file are mapped"
    in_bytes = {"files": [{"path": "model.onnx"}, {"path": "notes.txt"}], "quantization": {}}
    (model / "model.json").write_text(json.dumps(in_bytes))
    assert set(packaged()) == {"model.json", "model.onnx", "model.onnx.ort", "notes.txt"}
    (model / "model.json").write_text(json.dumps({"files": [{"path": "model.onnx"}]}))
    assert set(packaged(m2fp=None)) == {"model.json", "model.onnx"}
    assert set(packaged(m2fp=tmp_path / "absent")) == {"model.json", "model.onnx"}


def test_a_model_too_large_for_a_zip_is_pointed_to_the_image(tmp_path: Path) -> None:
    run = package(tmp_path / "fn", model_folder(tmp_path / "model", 240 * 2**20))
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "over the 250 MB" in run.stderr
    assert "deploy/container/Dockerfile" in run.stderr
    assert not (tmp_path / "fn.zip").exists()
    assert (tmp_path / "fn" / "bootstrap").exists(), "the image is built from the folder"


def test_the_image_template_is_the_template_with_an_image() -> None:
    # Through JSON, whose objects are equal in any order.
    text = (ROOT / "template.yaml").read_text()
    image, main = (json.loads(json.dumps(yaml_parse(one))) for one in (image_template.image_template(text), text))
    for name in ("HttpFunction", "S3Function"):
        function = image["Resources"][name]
        assert function["Properties"].pop("PackageType") == "Image"
        assert function["Properties"].pop("ImageUri") == {"Ref": "ImageUri"}
        assert "Metadata" not in function
        function["Metadata"] = {"BuildMethod": "makefile"}
    assert re.search(
        image["Parameters"].pop("ImageUri")["AllowedPattern"], "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:b"
    )
    image["Globals"]["Function"] |= {"CodeUri": ".", "Runtime": "provided.al2023", "Handler": "bootstrap"}
    assert image["Metadata"].popitem()[1]["ParameterGroups"][0]["Parameters"][0] == "ImageUri"
    main.pop("Metadata")
    image.pop("Metadata")
    assert image == main


def test_a_template_that_was_changed_is_not_made_an_image_of() -> None:
    text = (ROOT / "template.yaml").read_text().replace("    Handler: bootstrap\n", "")
    with pytest.raises(ValueError, match="CodeUri"):
        image_template.image_template(text)


def test_the_instances_template_is_the_template_with_a_capacity_provider() -> None:
    """Lambda sets AWS_LAMBDA_MAX_CONCURRENCY from this, and the function serves as many at once."""
    text = (ROOT / "template.yaml").read_text()
    # Through JSON, whose objects are equal in any order.
    templates = (instances_template.instances_template(text), text)
    instances, main = (json.loads(json.dumps(yaml_parse(one))) for one in templates)
    added = {name: instances["Parameters"].pop(name) for name in ("CapacityProviderArn", "EnvironmentConcurrency")}
    assert re.search(
        added["CapacityProviderArn"]["AllowedPattern"], "arn:aws:lambda:eu-west-1:123456789012:capacity-provider:a"
    )
    (most,) = re.findall(r"MAX_CONCURRENCY: u32 = (\d+);", (ROOT / "src/config.rs").read_text())
    assert added["EnvironmentConcurrency"]["MaxValue"] == int(most)
    function = instances["Globals"]["Function"]
    assert function.pop("CapacityProviderConfig") == {
        "Arn": {"Ref": "CapacityProviderArn"},
        "PerExecutionEnvironmentMaxConcurrency": {"Ref": "EnvironmentConcurrency"},
    }
    # SAM refuses both at once.
    function["VpcConfig"] = main["Globals"]["Function"]["VpcConfig"]
    assert instances["Parameters"]["MemoryMb"].pop("MinValue") >= 2048
    for name in ("ProvidersHaveTheNetwork", "NoneIsReserved"):
        assert instances["Rules"].pop(name)["Assertions"]
    for one in (main, instances):
        one.pop("Metadata")
        one["Parameters"].pop("MemoryMb")
    assert instances == main


def test_the_instances_template_is_made_of_the_images_too() -> None:
    image = image_template.image_template((ROOT / "template.yaml").read_text())
    assert {"ImageUri", "CapacityProviderArn"} <= set(
        yaml_parse(instances_template.instances_template(image))["Parameters"]
    )


def test_a_template_with_another_network_is_not_made_one_of_instances() -> None:
    text = (ROOT / "template.yaml").read_text().replace("    VpcConfig: !If\n", "    VpcConfig:\n")
    with pytest.raises(ValueError, match="InVpc"):
        instances_template.instances_template(text)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    run = package(tmp_path / "fn", tmp_path)
    assert (run.returncode, run.stderr) == (1, f"{tmp_path} is not a model folder: it has no model.json\n")


def test_the_runtime_runs_on_amazon_linux() -> None:
    assert al2023.faults(LIBRARY) == []


def test_symbol_versions_are_those_of_the_library() -> None:
    """What ONNX Runtime's wheel asks for, by docs/deploy.md; its tag says glibc 2.28 at most."""
    needed = al2023.needed_versions(LIBRARY)
    assert (2, 17) <= needed.pop("GLIBC") <= (2, 28)
    assert needed["GLIBCXX"] == (3, 4, 22)
    assert needed["CXXABI"] == (1, 3, 11)


def test_what_is_no_binary_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data, sentence in (
        (b"#!/bin/sh", "is not a Linux binary"),
        (b"\x7fELF\x01\x01" + bytes(100), "is not a Linux binary of 64 bits"),
        (LIBRARY.read_bytes()[:4096], "is damaged"),
    ):
        file.write_bytes(data)
        with pytest.raises(SystemExit, match=sentence):
            al2023.faults(file)


def test_a_binary_from_a_newer_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(al2023, "needed_versions", lambda _: {"GLIBC": (2, 39), "GLIBCXX": (3, 4, 29)})
    expected = "bootstrap needs GLIBC 2.39; Lambda's Amazon Linux 2023 has 2.34"
    assert al2023.faults(Path("bootstrap")) == [expected]


def test_a_binary_for_another_architecture_is_named() -> None:
    found = al2023.architecture(LIBRARY)
    other = "arm64" if found == "x86_64" else "x86_64"
    assert al2023.wrong_architecture(LIBRARY, other) == [f"{LIBRARY} is for {found}, and {other} is wanted"]
    assert al2023.wrong_architecture(LIBRARY, found) == []


def test_the_scene_is_the_same_each_time() -> None:
    photos = [Image.open(ROOT / f".runtime/photos/{name}.png") for name in ("astronaut", "camera")]
    first, second = (compose_scene.compose(*photos) for _ in range(2))
    assert first.size == (1920, 1080)
    assert first.tobytes() == second.tobytes()


def test_demo_writes_what_the_dispatcher_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "image": {"width": 4, "height": 3},
        "plan": {"working_width": 4, "working_height": 3, "reason": "native size"},
        "persons": [{}],
        "classes": [],
        "timings_ms": {"inference": 1.0, "total": 2.0},
        "memory": {"peak_rss_mb": 3.0},
    }
    m2fp = tmp_path / "m2fp"
    m2fp.write_text(f"""#!{sys.executable}
import base64, json, sys
assert sys.argv[1] == "invoke"
event = json.load(open(sys.argv[2]))
assert base64.b64decode(event["body"]) == b"photo"
if event["rawQueryString"] == "output=json":
    print(json.dumps({{"statusCode": 200, "body": json.dumps({report!r})}}))
else:
    picture = base64.b64encode(event["rawQueryString"].encode()).decode()
    print(json.dumps({{"statusCode": 200, "body": picture, "isBase64Encoded": True}}))
""")
    m2fp.chmod(0o755)
    (tmp_path / "a.jpg").write_bytes(b"photo")
    demo.show(m2fp, tmp_path / "a.jpg", tmp_path)
    assert (tmp_path / "a.jpg.mask.png").read_bytes() == b"output=mask"
    assert (tmp_path / "a.jpg.overlay.jpg").read_bytes() == b"output=overlay"
    assert json.loads((tmp_path / "a.jpg.json").read_text()) == report
    assert str(tmp_path / "a.jpg.mask.png") in capsys.readouterr().out


def test_the_table_of_parts_starts_with_the_largest() -> None:
    parts = [
        {"id": 2, "name": "Hair", "pixels": 10, "fraction": 0.1, "score": 0.9, "bbox": [0, 0, 2, 5]},
        {"id": 13, "name": "Face", "pixels": 20, "fraction": 0.2, "score": None, "bbox": [1, 1, 4, 5]},
    ]
    lines = demo.table({"classes": parts}).splitlines()
    assert [line.split()[0] for line in lines] == ["part", "Face", "Hair"]


def test_costs_follow_memory_and_time() -> None:
    size = {"min_side": 384, "max_side": 800, "divisor": 32}
    assert cost_table.working_pixels(1920, 1080, size) == 704 * 384
    assert cost_table.working_pixels(1920, 1080, {**size, "max_side": 576, "max_shrink": 0.025}) == 576 * 320
    assert cost_table.working_pixels(1500, 1000, {**size, "max_side": 576, "max_shrink": 0.025}) == 576 * 384
    work = cost_table.Work(inference_core_seconds=2, serial_seconds=1)
    assert cost_table.seconds(work, 0.5) == pytest.approx(6)
    assert cost_table.seconds(work, 2) == pytest.approx(2)
    time = {"base_ms": 10, "ns_per_pixel": 100, "threads": 2}
    manifest = {"time": time, "input": {"size": size}}
    # 10 ms, and 100 ns for each of 704 × 384 pixels, on two threads, three times as slow.
    slow = cost_table.work_of(manifest, 1920, 1080, serial_ms=150, slower=3)
    assert slow == cost_table.Work(pytest.approx(3 * 2 * 0.0370336), 0.15)
    unmeasured = cost_table.work_of(manifest, 1920, 1080, serial_ms=150)
    assert unmeasured.inference_core_seconds == pytest.approx(cost_table.WITHOUT_VNNI * 2 * 0.0370336)
    manifest["other_times"] = [{**time, "base_ms": 50, "processor": "avx2"}]
    measured = cost_table.work_of(manifest, 1920, 1080, serial_ms=150)
    assert measured.inference_core_seconds == pytest.approx(2 * 0.0770336)
    on_arm64 = cost_table.work_of(manifest, 1920, 1080, serial_ms=150, arch="arm64")
    assert on_arm64 == measured, "taken to be as fast until it was measured"
    manifest["other_times"].append({**time, "base_ms": 20, "processor": "neon"})
    on_arm64 = cost_table.work_of(manifest, 1920, 1080, serial_ms=150, arch="arm64")
    assert on_arm64.inference_core_seconds == pytest.approx(2 * 0.0470336)
    line = cost_table.rows(work, "x86_64", least_mb=1000)
    assert "no: the model needs 1000 MB" in line[2]
    # 3 s × 1769 MB × USD 0.0000166667 a GB-second, and the request itself.
    assert "| 3.00 | 0.0866 | yes |" in line[4]


def test_the_page_has_the_tables_of_the_script() -> None:
    for made_by, lines in scale.TABLES.items():
        assert published.block(scale.PAGE, made_by) == "\n".join(lines()), "scripts/scale.py --write"


@pytest.mark.parametrize(
    ("machine", "flags", "kind"),
    [
        ("x86_64", "fma avx2 avx512f avx512_vnni", "VNNI"),
        ("x86_64", "fma avx2 avx_vnni", "AVX-VNNI"),
        ("x86_64", "fma avx2 avx512f", "AVX-512"),
        ("x86_64", "fma avx2", "AVX2"),
        ("x86_64", "sse4_2", "x86_64"),
        ("aarch64", "", "NEON"),
    ],
)
def test_kinds_of_processors(monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, kind: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(published, "_cpuinfo", lambda: f"model name\t: x\nflags\t\t: {flags}\nbugs\t: y\n")
    assert published.kind() == kind


def test_a_block_is_what_was_put_there(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- made by `x` -->\n<!-- end -->\nb\n")
    published.replace_block(page, "x", "one\ntwo")
    assert published.block(page, "x") == "one\ntwo"
    published.replace_block(page, "x", "three")
    assert page.read_text() == "a\n<!-- made by `x` -->\nthree\n<!-- end -->\nb\n"


def test_plans_follow_time_and_prices() -> None:
    model = scale.Model("a", cost_table.Work(inference_core_seconds=0.5, serial_seconds=0.38), least_mb=512)
    # One vCPU, and four round trips of 30 ms.
    assert scale.seconds(model, 1769) == pytest.approx(1.0)
    # 1 s of 1769 MB at USD 0.0000133334 a GB-second, and the request.
    assert scale.lambda_usd(model, 1769, "arm64") == pytest.approx(2.3234e-5, rel=1e-3)
    # 8 reads of USD 0.0004 and 2 writes of USD 0.005 a thousand.
    assert scale.s3_usd() == pytest.approx(1.32e-5)
    assert scale.express_usd(1.01) == pytest.approx(1e-6 + 1.1 / 16 * 0.00001667)


def test_a_wheel_that_is_not_known_byte_for_byte_is_refused(tmp_path: Path) -> None:
    for name in ("onnxruntime-1.32.0-cp312-cp312-manylinux_2_28_x86_64.whl", "stranger-1.0-py3-none-any.whl"):
        wheel = tmp_path / name
        wheel.write_bytes(b"not what PyPI has")
        with pytest.raises(ValueError, match="not the one that is known"):
            fetch_wheel_file.check(wheel)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only processors of x86_64 have AVX-512")
def test_avx512_is_hidden_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "tell.c"
    source.write_text("""
        #include <cpuid.h>
        #include <stdio.h>
        int main(void) {
            unsigned a = 0, b = 0, c = 0, d = 0;
            __get_cpuid_count(7, 0, &a, &b, &c, &d);
            unsigned a1 = 0, b1 = 0, c1 = 0, d1 = 0;
            __get_cpuid_count(1, 0, &a1, &b1, &c1, &d1);
            printf("%x %x %x", b, c, c1);
        }
    """)
    program = tmp_path / "tell"
    subprocess.run(["cc", "-o", program, source], check=True)
    (hidden,) = hide_avx512.hide([program], tmp_path / "hidden", library=program)

    def told(command: Path) -> list[int]:
        return [int(word, 16) for word in subprocess.check_output([command], text=True).split()]

    (b, c, leaf1), (hidden_b, hidden_c, hidden_leaf1) = told(program), told(hidden)
    # AVX512F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
    assert hidden_b == b & ~sum(1 << bit for bit in (16, 17, 21, 26, 27, 28, 30, 31))
    assert hidden_c == c & ~sum(1 << bit for bit in (1, 6, 11, 12, 14))
    # APIC ids and the processor's number, which differ between runs, are in EBX.
    assert hidden_leaf1 == leaf1
