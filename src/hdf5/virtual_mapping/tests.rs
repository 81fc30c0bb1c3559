//! Blocks that h5py 3.16 with HDF5 2.0 wrote: `earliest` for `libver="earliest"`, `latest` for `libver="latest"`, where the second
//! entry shares the name of the dataset and the third one both names.

use super::*;

const EARLIEST: &str = "000200000000000000655f70302e6835006c61796572732f66630003000000010000000000000000000000020000000100\
    00000000000018000000020000000100000000000000000000000200000001000000655f70312e6835006c61796572732f666300030000000100000000\
    00000000000000020000000100000000000000180000000200000001000000030000000000000005000000010000009eb37d3c";
const LATEST: &str = "0103000000000000000070617274732f303030303030303030302e6835006c61796572732f6161616161616161616161000200\
    00000300000001020200000001000100010002000000010001000200020000000300000001020200000000000100010002000000010001000200027061\
    7274732f303030303030303030312e683500000000000000000002000000030000000102020000000100010001000200000001000100020002000000\
    03000000010202000000020001000100020000000100010002000301000000000000000000000000000000020000000300000001020200000004000100\
    010002000000010001000200020000000300000001020200000004000100010002000000010001000200998f2740";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// With the checksum that belongs to it.
fn sealed(mut block: Vec<u8>) -> Vec<u8> {
    let end = block.len() - 4;
    let checksum = jenkins_lookup3(&block[..end]).to_le_bytes();
    block[end..].copy_from_slice(&checksum);
    block
}

fn part(rows: Range<u64>, file: &str, dataset: &str, first: Option<u64>) -> MappedRows {
    MappedRows { rows, file: Some(PathBuf::from(file)), dataset: dataset.to_owned(), first }
}

#[test]
fn mappings_of_both_versions_are_read() {
    let found = read(&bytes(EARLIEST), &[6, 2], 8).unwrap();
    assert_eq!(found, [part(0..3, "e_p0.h5", "layers/fc", None), part(3..6, "e_p1.h5", "layers/fc", None)]);
    let found = read(&bytes(LATEST), &[6, 2], 8).unwrap();
    let (name, other) = ("layers/aaaaaaaaaaa", "parts/0000000001.h5");
    let expected = [
        part(0..2, "parts/0000000000.h5", name, Some(1)),
        part(2..4, other, name, Some(1)),
        part(4..6, other, name, Some(4)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_mapping_that_does_not_fit_its_dataset_is_refused() {
    let block = bytes(EARLIEST);
    for (shape, why) in [
        (&[7, 2][..], "its rows from 6 on come from no file"),
        (&[6, 3], "it maps parts of rows"),
        (&[5, 2], "it maps parts of rows"),
        (&[6], "it maps parts of rows"),
        (&[], "it has no rows"),
    ] {
        assert_eq!(read(&block, shape, 8), Err(MappingError::Unsupported(why.to_owned())), "{shape:?}");
    }
    // The second part in the place of the first.
    let at = block.windows(4).rposition(|bytes| bytes == [3, 0, 0, 0]).unwrap();
    let mut twice = block.clone();
    twice[at] = 2;
    let why = "its rows from 2 on come from several places".to_owned();
    assert!(
        matches!(read(&sealed(twice), &[6, 2], 8), Err(MappingError::Unsupported(found)) if found == why)
    );
}

#[test]
fn names_that_lead_elsewhere_or_stand_for_many_are_refused() {
    for (name, why) in [
        ("../x.h5", "only files in the folder"),
        ("/x.h5", "only files in the folder"),
        ("a/../../x.h5", "only files in the folder"),
        ("", "only files in the folder"),
        ("part-%b.h5", "stands for a series of names"),
        ("50%", "stands for a series of names"),
    ] {
        let refused = part_path(name).unwrap_err();
        assert!(
            matches!(&refused, MappingError::Unsupported(found) if found.contains(why)),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(part_path("./a/100%% b.h5"), Ok(PathBuf::from("./a/100% b.h5")));
}

#[test]
fn a_damaged_mapping_is_refused_wherever_it_is_damaged() {
    for hex in [EARLIEST, LATEST] {
        let block = bytes(hex);
        for cut in 0..block.len() {
            assert!(read(&block[..cut], &[6, 2], 8).is_err(), "cut to {cut}");
        }
        for at in 0..block.len() {
            let mut changed = block.clone();
            changed[at] ^= 0x41;
            assert!(read(&changed, &[6, 2], 8).is_err(), "the checksum does not show byte {at}");
            // With a checksum that is right again it may mean something else, but is never a panic.
            let _ = read(&sealed(changed), &[6, 2], 8);
        }
    }
}
