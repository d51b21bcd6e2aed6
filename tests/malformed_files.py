"""Files that no program should trust, each made by one function when a row of the table names it."""

import os
import struct
import zipfile

import numpy as np

EYE = np.eye(12, 5, dtype=np.uint8)
BIG = (10**9, 10**6)


def npy(shape: tuple[int, ...], body: bytes = b"", dtype: str = "|u1") -> bytes:
    """A .npy whose header may lie."""
    header = str({"descr": dtype, "fortran_order": False, "shape": shape})
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + body


def zipped(path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)


def sparse(path) -> None:
    """200 MB without a line break that take no place."""
    with path.open("wb") as file:
        file.truncate(200 << 20)


def claims_too_much(path) -> None:
    """A zip directory that promises an enormous member."""
    zipped(path, x_npy=npy((12, 5), bytes(60)))
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\1\2")
    raw[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(bytes(raw))


LONG_HEADER = b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + b" " * (20 << 20)
FLOAT = EYE.astype(float)
NAN = np.where(FLOAT == 1, np.nan, FLOAT)

MADE = {
    "ok.npy": lambda p: np.save(p, EYE),
    "again.npy": lambda p: np.save(p, EYE),
    "ok.npz": lambda p: np.savez(p, train=EYE, valid=EYE, test=EYE),
    "narrow.npy": lambda p: np.save(p, EYE[:, :4]),
    "two.npy": lambda p: np.save(p, EYE * 2),
    "half.npy": lambda p: np.save(p, FLOAT / 2),
    "nan.npy": lambda p: np.save(p, NAN),
    "inf.npy": lambda p: np.save(p, np.full((12, 5), np.inf)),
    "flat.npy": lambda p: np.save(p, EYE.ravel()),
    "cube.npy": lambda p: np.save(p, EYE.reshape(3, 4, 5)),
    "norows.npy": lambda p: np.save(p, EYE[:0]),
    "nocols.npy": lambda p: np.save(p, EYE[:, :0]),
    "few.npy": lambda p: np.save(p, EYE[:9]),
    "words.npy": lambda p: np.save(p, EYE.astype(str)),
    "complex.npy": lambda p: np.save(p, EYE.astype(complex)),
    "dates.npy": lambda p: np.save(p, EYE.astype("datetime64[s]")),
    "pickle.npy": lambda p: np.save(p, np.array([{}], object), allow_pickle=True),
    "pickle.npz": lambda p: np.savez(p, x=np.array([{}], object)),
    "short.npy": lambda p: p.write_bytes(npy((12, 5), b"\1" * 7)),
    "negative.npy": lambda p: p.write_bytes(npy((-12, 5), bytes(60))),
    "code.npy": lambda p: p.write_bytes(npy((12, 5), bytes(60), dtype="__import__('os')")),
    "bomb.npy": lambda p: p.write_bytes(npy(BIG)),
    "bomb.npz": lambda p: zipped(p, x_npy=npy(BIG)),
    "parts.npz": lambda p: zipped(p, **{f"{c}_npy": npy((1 << 30, 1)) for c in "abcde"}),
    "under.npz": lambda p: zipped(p, x_npy=npy((12, 5), bytes(20 << 20))),
    "claim.npz": claims_too_much,
    "header.npz": lambda p: zipped(p, x_npy=LONG_HEADER),
    "header.npy": lambda p: p.write_bytes(LONG_HEADER),
    "many.npz": lambda p: zipped(p, **{f"a{i}_npy": npy((1, 1), b"\0") for i in range(200)}),
    "dots.npz": lambda p: zipped(p, **{"__tmp__x_npy": npy((12, 5), bytes(60))}),
    "script.npz": lambda p: zipped(p, setup_py=b"raise SystemExit"),
    "inner.npz": lambda p: zipped(p, x_npz=b"PK"),
    "cut.npz": lambda p: (MADE["ok.npz"](p), p.write_bytes(p.read_bytes()[:200])),
    "torn.npz": lambda p: (MADE["ok.npz"](p), p.write_bytes(p.read_bytes()[:-30])),
    "empty.npz": lambda p: p.touch(),
    "widths.npz": lambda p: np.savez(p, train=EYE, valid=EYE[:, :4], test=EYE),
    "novalid.npz": lambda p: np.savez(p, train=EYE, test=EYE),
    "hollow.npz": lambda p: np.savez(p, train=EYE, valid=EYE[:0], test=EYE),
    "packed.npz": lambda p: np.savez(p, x=np.packbits(EYE, axis=1) + 1, n_features=5),
    "width.npz": lambda p: np.savez(p, x=EYE, n_features=-3),
    "gzip.csv": lambda p: p.write_bytes(b"\x1f\x8b\x08\0" + bytes(99)),
    "ragged.csv": lambda p: p.write_text("1,1\n" * 10 + "0,1,1\n"),
    "nan.csv": lambda p: p.write_text("0,nan\n" * 10),
    "two.csv": lambda p: p.write_text("1,1\n" * 10 + "0,2\n"),
    "gap.csv": lambda p: p.write_text("0,,1\n" * 10),
    "head.csv": lambda p: p.write_text("a,1\n" + "0,1\n" * 10),
    "glued.txt": lambda p: p.write_text("0101\n" * 10),
    "blank.csv": lambda p: p.write_text("0,1\n\n0,1\n"),
    "empty.csv": lambda p: p.touch(),
    "nul.csv": lambda p: p.write_bytes(b"0,\0\n" * 10),
    "utf16.csv": lambda p: p.write_bytes("0,1\n".encode("utf-16") * 10),
    "line.csv": sparse,
    "loop.csv": lambda p: p.symlink_to("loop.csv"),
    "gone.npy": lambda p: p.symlink_to("nowhere.npy"),
    "zero.csv": lambda p: p.symlink_to("/dev/zero"),
    "pipe.csv": os.mkfifo,
    "data.json": lambda p: p.write_text("[]"),
    "folder.npy": lambda p: p.mkdir(),
    "plain": lambda p: p.touch(),
}
