"""Floor 1: what Omniglot consists of, so that a copy can be told from the real thing.

Copies of the published zip files differ in their bytes (they were packed again), not in their drawings; so the
drawings themselves are known here. Each digest is the first half of the sha256 over all drawings of an alphabet,
by character and then by drawing number, each as ``numpy.packbits(pixels > 127)`` of its 105 x 105 pixels.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ALPHABETS", "DRAWINGS", "PARTS", "Alphabet", "Part"]

DRAWINGS = 20
"""Drawings of each character, one by each of 20 people."""


class Part(NamedTuple):
    """One of the two published files.

    Args:
        alphabets, characters: how many it holds.
        md5: of the zip file as published.
    """

    alphabets: int
    characters: int
    md5: str


class Alphabet(NamedTuple):
    """One alphabet.

    Args:
        part: the zip file and folder that it lies in.
        characters: how many it has; they are called character01, character02, ...
        digest: of its drawings, see above.
    """

    part: str
    characters: int
    digest: str


PARTS = {
    "images_background": Part(30, 964, "68d2efa1b9178cc56df9314c21c6e718"),
    "images_evaluation": Part(20, 659, "6b91aef0f799c5bb55b94e3f2daec811"),
}

ALPHABETS = {
    "Alphabet_of_the_Magi": Alphabet("images_background", 20, "7a63a66f5430edec7001d8ff5de7de6d"),
    "Anglo-Saxon_Futhorc": Alphabet("images_background", 29, "6169ddc291a67187b6daa89af7d5e943"),
    "Arcadian": Alphabet("images_background", 26, "3a2eef48d80ca7e34df7ad7c5978d42d"),
    "Armenian": Alphabet("images_background", 41, "7bb73ffe3de1512450af4fcafc2dfef4"),
    "Asomtavruli_(Georgian)": Alphabet("images_background", 40, "7ace4358c390716d5a411647aea07a34"),
    "Balinese": Alphabet("images_background", 24, "ab853c83de2d982bdae833ec57bbbe3d"),
    "Bengali": Alphabet("images_background", 46, "5ab5919c49be8a7a7db7807a3cb0bf7b"),
    "Blackfoot_(Canadian_Aboriginal_Syllabics)": Alphabet("images_background", 14, "cf24cbba485d3e12e1e3d5c5f022c951"),
    "Braille": Alphabet("images_background", 26, "b07bd23f63e2c490b93017a16f8b6617"),
    "Burmese_(Myanmar)": Alphabet("images_background", 34, "1884b713c11dc187d8f0c76ac178aeaa"),
    "Cyrillic": Alphabet("images_background", 33, "9bae72deb330ef205a2ac8382eb4fb2f"),
    "Early_Aramaic": Alphabet("images_background", 22, "f77bc658ba7ed979343b6b23dd4bfc68"),
    "Futurama": Alphabet("images_background", 26, "addf5aea16a220fa9b5d78cc877cf323"),
    "Grantha": Alphabet("images_background", 43, "34a65b77b25097710a90e351974d7bec"),
    "Greek": Alphabet("images_background", 24, "94d26912ce34785308402091e5ce7112"),
    "Gujarati": Alphabet("images_background", 48, "7a8f25d092cd93b2c71d6bc8a7fa68b7"),
    "Hebrew": Alphabet("images_background", 22, "f4b86d49ebf836cf4ce3ed5c4c6029ca"),
    "Inuktitut_(Canadian_Aboriginal_Syllabics)": Alphabet("images_background", 16, "6cafc0ed2d499faa6372ec987b0a2f6e"),
    "Japanese_(hiragana)": Alphabet("images_background", 52, "bd87c245e7683ed51deccf6e05801344"),
    "Japanese_(katakana)": Alphabet("images_background", 47, "5b27a7862015e16ab6d6131a26ca6204"),
    "Korean": Alphabet("images_background", 40, "3baa03edf0788848f7a1bb5d80fea049"),
    "Latin": Alphabet("images_background", 26, "761840e834ed1610076cc96baa5a5d67"),
    "Malay_(Jawi_-_Arabic)": Alphabet("images_background", 40, "10a09e1a1eaee436587e0537975e7cd2"),
    "Mkhedruli_(Georgian)": Alphabet("images_background", 41, "dc3954271ef50f6949ad8ca9a4b617c8"),
    "N_Ko": Alphabet("images_background", 33, "1efb3d9c941ce7793018984e232b8799"),
    "Ojibwe_(Canadian_Aboriginal_Syllabics)": Alphabet("images_background", 14, "ae0266d35c15333a66b76c61c27e833f"),
    "Sanskrit": Alphabet("images_background", 42, "aafb03339ba272304c37401183fa249b"),
    "Syriac_(Estrangelo)": Alphabet("images_background", 23, "db9b56ee68c4cb8a8507d5b0b995f1a9"),
    "Tagalog": Alphabet("images_background", 17, "e2d5d6fbbbd23a3dc724021affced069"),
    "Tifinagh": Alphabet("images_background", 55, "813e3548de75203623edb6b61ba83e4e"),
    "Angelic": Alphabet("images_evaluation", 20, "7942083677a6a9de9f9ada83e7479add"),
    "Atemayar_Qelisayer": Alphabet("images_evaluation", 26, "23e198854038a036bcb81f9e308ff765"),
    "Atlantean": Alphabet("images_evaluation", 26, "a73c46aa14123acfce71cc5e976f041b"),
    "Aurek-Besh": Alphabet("images_evaluation", 26, "61b2ef5dc610e0265ee444ae0ccec705"),
    "Avesta": Alphabet("images_evaluation", 26, "89f8d25a0b8cea4158772e34d643ae08"),
    "Ge_ez": Alphabet("images_evaluation", 26, "356a3b30cfc026e67df836be62311562"),
    "Glagolitic": Alphabet("images_evaluation", 45, "bb612380a6aa058a6e58471824e77eea"),
    "Gurmukhi": Alphabet("images_evaluation", 45, "ed8161358d3ef36e6ec02a2ec7cf62e4"),
    "Kannada": Alphabet("images_evaluation", 41, "5d3e4c49aaff3634349ff53cd0b16834"),
    "Keble": Alphabet("images_evaluation", 26, "3544fce72a6c8b289441b9dc847a0de6"),
    "Malayalam": Alphabet("images_evaluation", 47, "b91182aaf0a39e91f57b56fc82346519"),
    "Manipuri": Alphabet("images_evaluation", 40, "e3505004cd749bd8b840141ca3f5e31b"),
    "Mongolian": Alphabet("images_evaluation", 30, "4e8078861f2fc5b3f7732b8e873a23ba"),
    "Old_Church_Slavonic_(Cyrillic)": Alphabet("images_evaluation", 45, "17c5dd9613c0e51bdfdd8064fda554c9"),
    "Oriya": Alphabet("images_evaluation", 46, "1e749f42cf02264b42c9e0aee6a5ebcb"),
    "Sylheti": Alphabet("images_evaluation", 28, "1b694e685b0e94e986ca441ce3b9240d"),
    "Syriac_(Serto)": Alphabet("images_evaluation", 23, "99dc6572827892421ddac69ae9663eef"),
    "Tengwar": Alphabet("images_evaluation", 25, "93fc5727e8eaf3a679e1f9526e52a66a"),
    "Tibetan": Alphabet("images_evaluation", 42, "f1b5d2c9db24a5f9cf8e9da8b0b3126e"),
    "ULOG": Alphabet("images_evaluation", 26, "de877c96f99bcf60e04b793855ff7fd3"),
}
