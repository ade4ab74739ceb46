"""Broken and hostile archives: a catalogue of furniture and the data of a game, each with members that must fail."""

import io
import struct
import zipfile

from mesh_bytes import TRIANGLE, pmd
from PIL import Image

# Members of a Sweet Home 3D archive, and the reasons.
PACKED = {
    "zeros.obj": ("# " + "0" * 5_000_000 + "\n" + TRIANGLE + "f 1 2 3\n", "5000035 bytes, more than 4000000"),
    "textures.obj": (
        "mtllib textures.mtl\n" + TRIANGLE + "vt 0 0\n" + "".join(f"usemtl {n}\nf 1/1 2/1 3/1\n" for n in range(4)),
        "bytes are unpacked for one object, more than 7000000",
    ),
    "liar.obj": (TRIANGLE + "f 1 2 3\n" + "#" * 900_000, "liar.obj: damaged"),
    "broken.obj": (TRIANGLE + "f 1 2 3\n" + "#" * 900, "broken.obj: damaged"),
    "../../outside/canary.obj": (None, "refers to '../../outside/canary.obj', outside"),
    "gone.obj": (None, "no such member"),
}


def write_archive(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        models = list(PACKED)
        archive.writestr(
            "PluginFurnitureCatalog.properties",
            "".join(f"name#{n}=thing {n}\nmodel#{n}={model}\n" for n, model in enumerate(models)),
        )
        for name, (content, _) in PACKED.items():
            if content is not None:
                archive.writestr(name, content)
        archive.writestr("textures.mtl", "".join(f"newmtl {n}\nmap_Kd {n}.bmp\n" for n in range(4)))
        bitmap = io.BytesIO()
        Image.new("RGB", (900, 900)).save(bitmap, "BMP")
        for number in range(4):
            archive.writestr(f"{number}.bmp", bitmap.getvalue())
        size, start = archive.getinfo("liar.obj").file_size, archive.getinfo("broken.obj").header_offset
    data = bytearray(path.read_bytes())
    # The directory says that one member is small, and a byte of another is changed.
    entry = data.rindex(b"liar.obj") - 46
    assert struct.unpack_from("<I", data, entry + 24) == (size,)
    struct.pack_into("<I", data, entry + 24, 40)
    data[start + 30 + len("broken.obj") + 5] ^= 0xFF
    path.write_bytes(data)


ACTOR = '<actor><group><variant frequency="1"><mesh>a.pmd</mesh>{0}</variant></group></actor>'
PROP = '<props><prop actor="{0}" attachpoint="root"/></props>'
LAUGHS = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
# Animals of a 0 A.D. archive: what each holds, the XML of that, and the reason.
ACTORS = {
    "bear": ("props/laughs.xml", f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><actor>&l9;</actor>', "XML entities"),
    "deer": (
        "props/external.xml",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///{outside}/canary.obj">]><actor>&x;</actor>',
        "XML entities",
    ),
    "fox": ("props/hidden.xml", "<!DOC<!DOCTYPE a>TYPE b [<!ELEMENT c ANY>]><actor/>", "malformed document type"),
    "horse": ("props/loop.xml", ACTOR.format(PROP.format("props/loop.xml")), "props nested too deeply"),
    "pig": ("../../../outside/canary.xml", None, "outside the mesh's folder"),
    "whale": ("props/gone.xml", None, "no such member"),
    "zebra": ("props/open.xml", "<actor><group>", "not well-formed XML"),
}


def write_game(path, outside):
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("art/meshes/a.pmd", pmd())
        archive.writestr("art/actors/fauna/giraffe.xml", ACTOR.format(""))
        for animal, (prop, xml, _) in ACTORS.items():
            archive.writestr(f"art/actors/fauna/{animal}.xml", ACTOR.format(PROP.format(prop)))
            if xml is not None:
                archive.writestr(f"art/actors/{prop}", xml.replace("{outside}", str(outside)))
