export DIB_VMHB_GUEST=${DIB_VMHB_GUEST:-vmhb-guest}
